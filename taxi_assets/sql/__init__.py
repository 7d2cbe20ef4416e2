"""The statements, one file each, named by its verb, and the one function that reads them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg import sql


@cache
def _text(name: str) -> str:
    return (Path(__file__).parent / f"{name}.sql").read_text()


def postgres(name: str, /, **parts: sql.Composable) -> sql.Composed:
    """The statement `postgres/{name}.sql` with its parts filled in: identifiers from the nouns, values as literals."""
    from psycopg import sql

    return sql.SQL(_text(f"postgres/{name}")).format(**parts)


def bigquery(name: str, /, **parts: str) -> str:
    """The statement `bigquery/{name}.sql` with its parts filled in, which are GoogleSQL already."""
    return _text(f"bigquery/{name}").format(**parts)
