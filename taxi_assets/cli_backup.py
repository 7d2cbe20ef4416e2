"""`taxi backup` and `taxi restore`: an installation into a folder, and back.

A command says what it does in its help, with examples; the work itself is in backup.py.
"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
def backup(folder: Path | None) -> None:
    """Write the trips and Dagster's history into FOLDER, which is made for it.

    Months may load meanwhile. Without FOLDER it is one of the time below TAXI_HOME, in backups.

    \b
    Examples:
      taxi backup
      taxi backup /mnt/backups/before-upgrade
    """
    from rich.console import Console

    from taxi_assets.backup import back_up
    from taxi_assets.display import progress_bar, show_backup

    console = Console()
    with progress_bar(console) as progress:
        written, contents = back_up(folder, progress)
    show_backup(console, f"{written}: ", contents)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="What the databases hold goes, and the backup takes its place.")
def restore(folder: Path, replace: bool) -> None:
    """Put a backup from FOLDER back into the databases: each as a whole, or not at all.

    Databases that hold trips, settings or runs are left alone, unless with --replace.

    \b
    Examples:
      taxi restore .taxi/backups/2026-11-24T183000Z
      taxi restore --replace /mnt/backups/before-upgrade
    """
    import dagster as dg
    from rich.console import Console

    from taxi_assets.backup import put_back
    from taxi_assets.display import progress_bar, show_backup

    console = Console()
    with progress_bar(console) as progress:
        contents = put_back(folder, replace, progress)
    show_backup(console, "restored: ", contents)
    if contents.dagster != dg.__version__:
        console.print(
            f"The history is from Dagster {contents.dagster}, this is {dg.__version__}: run `taxi migrate` next.",
            soft_wrap=True, highlight=False,
        )  # fmt: skip
