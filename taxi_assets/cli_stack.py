"""`taxi init`, `taxi preflight` and `taxi migrate`: what an installation needs before it starts, or starts anew.

The work itself is in stack.py and instance.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from taxi_assets.resources.settings import PROJECT, taxi_home


@click.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Instead of .env of the project.")
@click.option("--new-login", is_flag=True, help="Make another password for the login: the old one is lost.")
def init(output: Path | None, new_login: bool) -> None:
    """Write .env with strong passwords for `docker compose up`, or add to it what is missing.

    Nothing that is set there is changed. The password of the login is shown once, and only its hash is kept.

    \b
    Examples:
      taxi init
      taxi init --new-login
      docker run --rm --user $(id -u) -v "$PWD:/here" IMAGE taxi init --output /here/.env
    """
    from taxi_assets.stack import make_env

    file = output or PROJECT / ".env"
    made, login = make_env(file, new_login)
    if not made:
        click.echo(f"{file} has everything already: nothing was changed.")
        return
    click.echo(f"{file} has new values for {', '.join(made)}.")
    if login:
        click.echo(
            f"\nThe login of the stack, which is shown this once:\n  user      {login.user}\n"
            f"  password  {login.password}\n\nNext: docker compose up --detach --wait, then {login.url}"
        )


@click.command()
@click.option("--managed", is_flag=True, help="The databases are elsewhere: look at the login and the disk alone.")
def preflight(managed: bool) -> None:
    """Look at passwords and disk before the stack starts, and refuse what would be regretted later.

    Docker compose runs it first; the passwords are in its environment.

    \b
    Example:
      docker compose run --rm preflight
    """
    from taxi_assets.stack import problems

    found = list(problems(os.environ, taxi_home(), managed))
    for problem in found:
        click.echo(f"taxi: {problem}", err=True)
    if found:
        raise SystemExit(1)
    click.echo("Passwords and disk are as they should be.")


@click.command()
def migrate() -> None:
    """Bring Dagster's history to what this version of Dagster wants, and do nothing where it is so already.

    Back up before it: the Dagster before cannot read what was changed.

    \b
    Example:
      taxi backup && taxi migrate
    """
    from taxi_assets.instance import migrate as migrate_history

    migrate_history(click.echo)
    click.echo("The history is as this version of Dagster wants it.")
