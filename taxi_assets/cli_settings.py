"""`taxi settings` and `taxi secrets`: what is set, and where keys are kept.

A command says what it does in its help, with examples; the work itself is in the other modules.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from datetime import timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from taxi_assets.errors import TaxiError
from taxi_assets.resources.settings import SETTINGS, TYPES, SettingError, Type, setting

if TYPE_CHECKING:
    from taxi_assets.resources.settings_store import SettingsStore, Value


def _store() -> SettingsStore:
    from taxi_assets.resources.postgres import Postgres
    from taxi_assets.resources.settings_store import SettingsStore

    return SettingsStore(postgres=Postgres())


LONGEST_SHOWN = 200  # characters of a value in the list; `taxi settings get` has all of it


@click.group()
def settings() -> None:
    """The settings that are kept in the database: this project's, and values of your own.

    The environment and .env win over what is set here.

    \b
    Examples:
      taxi settings list
      taxi settings set GCP_DATASET trips
    """


@settings.command("set", context_settings={"ignore_unknown_options": True})  # a value may begin with a dash
@click.argument("name")
@click.argument("value")
@click.option("--type", "type_", type=click.Choice(TYPES, case_sensitive=False), help="Of a value of your own.")
def set_(name: str, value: str, type_: str | None) -> None:
    """Set NAME to VALUE, which is checked by its rule.

    \b
    Examples:
      taxi settings set GCP_LOCATION EU
      taxi settings set GCP_STAGING_EXPIRATION P7D
      taxi settings set audit_from 2020-04-01 --type date
    """
    try:
        stored = _store().set(name, value, cast("Type | None", type_))
    except SettingError as error:
        raise click.UsageError(str(error)) from None
    click.echo(f"{name} is {stored.text}.")
    if setting(name):
        click.echo(f"The environment sets {name} too, and wins: take it out of there, or out of .env.", err=True)


@settings.command()
@click.argument("name")
def get(name: str) -> None:
    """Print the value of NAME alone.

    \b
    Example:
      taxi settings get GCP_DATASET
    """
    store = _store()
    found = store.find(name)
    if found is None:
        store.require([name])  # says how to set it
    else:
        click.echo(found.text)


@settings.command("list")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def list_(as_json: bool) -> None:
    """Show every setting, its value, and where that comes from.

    \b
    Examples:
      taxi settings list
      taxi settings list --json | jq '.[] | select(.origin == "stored")'
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from taxi_assets.resources.settings_store import setting_command

    found = _store().all()
    names = [*SETTINGS, *(name for name in found if name not in SETTINGS)]
    if as_json:
        click.echo(json.dumps([_as_json(name, found.get(name)) for name in names], indent=2))
        return
    console, table = Console(), Table("name", "type", "value", "from")
    for name in names:
        value = found.get(name)
        if value:
            shown = value.text if len(value.text) <= LONGEST_SHOWN else f"{value.text[:LONGEST_SHOWN]}…"
            table.add_row(name, value.type, Text(shown), _origin(value))
        else:
            table.add_row(name, SETTINGS[name].type, "", Text("not set", style="yellow"))
    console.print(table)
    for name in (name for name in SETTINGS if name not in found):
        console.print(f"{name} is not set: {setting_command(name)}", soft_wrap=True, highlight=False, markup=False)


def _origin(value: Value) -> str:
    when = f" {value.changed_at.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC" if value.changed_at else ""
    return f"{value.origin}{when}"


def _as_json(name: str, value: Value | None) -> dict[str, Any]:
    declared = SETTINGS.get(name)
    native = value and value.type in ("number", "boolean", "JSON")
    return {
        "name": name,
        "type": value.type if value else SETTINGS[name].type,
        "value": None if value is None else value.value if native else value.text,
        "origin": value.origin if value else None,
        "changed_at": value.changed_at.astimezone(timezone.utc).isoformat() if value and value.changed_at else None,
        "description": declared.description if declared else None,
    }


@settings.command()
@click.argument("name")
def unset(name: str) -> None:
    """Forget what NAME was set to.

    \b
    Example:
      taxi settings unset GCP_STAGING_EXPIRATION
    """
    _store().unset(name)
    click.echo(f"{name} is not stored any more.")


@settings.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_(file: Path) -> None:
    """Set everything that FILE names, or nothing where one value is wrong.

    FILE is an object of JSON (.json) or YAML (.yaml, .yml), or has lines NAME=value. What is no setting of this
    project has the type that JSON and YAML give it, and is a string elsewhere.

    \b
    Examples:
      taxi settings import settings.yaml
      taxi settings import kestra.env
    """
    values = _read(file)
    changed = [value.name for value in _store().set_many(values)]
    click.echo(f"{len(values)} set, {len(changed)} of them changed{': ' if changed else ''}{', '.join(changed)}.")


def _read(file: Path) -> Mapping[str, Any]:
    """The names and values of a file; what is wrong is told without its text, which may be a secret."""
    import yaml  # type: ignore[import-untyped]
    from dotenv.parser import parse_stream

    kinds = {".json": "JSON", ".yaml": "YAML", ".yml": "YAML"}
    kind = f"{kinds[file.suffix]} with names and values" if file.suffix in kinds else "lines NAME=value"
    line = None
    try:
        text = file.read_bytes().decode("utf-8-sig")
        if kind.startswith("JSON"):
            values = json.loads(text)
        elif kind.startswith("YAML"):
            values = yaml.safe_load(text)
        else:
            rows = list(parse_stream(io.StringIO(text)))
            broken = [row.original for row in rows if row.error or (row.key and row.value is None)]
            if broken:  # its text begins with the empty lines before it
                line = broken[0].line + broken[0].string.rstrip().count("\n")
            values = None if broken else {row.key: row.value for row in rows if row.key}
        json.dumps(values, default=str)  # what is written in YAML may contain itself
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else getattr(error, "lineno", None)
        values = None
    except OSError as error:
        raise TaxiError(f"{file} cannot be read ({error.strerror}): make it a file that you may read.") from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        where = f"{file}, line {line}," if line else str(file)
        raise TaxiError(f"{where} is not written as {kind}: correct it, then import it again.")
    return values


@click.group()
def secrets() -> None:
    """The keys that this installation works with: .env_encoded keeps them in base64.

    \b
    Example:
      taxi secrets encode service-account.json
    """


@secrets.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", default="GCP_CREDS", show_default=True, help="What the secret is called.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Instead of .env_encoded.")
def encode(file: Path, name: str, output: Path | None) -> None:
    """Check the service account's FILE, and add it to the file of secrets, or put it in the place of the old one.

    \b
    Examples:
      taxi secrets encode service-account.json
      taxi secrets encode service-account.json --output /run/secrets/taxi
    """
    from taxi_assets.resources.secrets import append, secrets_file
    from taxi_assets.resources.secrets import encode as encoded

    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or name.startswith("SECRET_"):
        raise click.UsageError("--name has letters, digits and _, and no SECRET_ in front: write it like GCP_CREDS.")
    output = output or secrets_file()
    replaced = append(encoded(file, name), output)
    click.echo(f"SECRET_{name} is in {output}{', in the place of the one before' if replaced else ''}.")
    click.echo("Base64 hides nothing: whoever reads that file has the key, so keep it to yourself and out of git.")
