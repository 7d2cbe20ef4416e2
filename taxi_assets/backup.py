"""Backups of an installation: its trips and Dagster's history into one folder, and back into any databases.

What belongs to a backup, in which order, and what a restore refuses is here; resources/dumps.py runs the programs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, ValidationError

from taxi_assets.errors import TaxiError
from taxi_assets.history import at_work
from taxi_assets.instance import dagster_instance, history_tables, storage_url
from taxi_assets.resources.dumps import Database, dump, restore, server_version, snapshot
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.settings import taxi_home
from taxi_assets.sql import postgres as statement
from taxi_assets.trips import COLORS

if TYPE_CHECKING:
    import psycopg

# Called with what is being done, how many bytes of it are done, and how many there are.
Progress = Callable[[str, int, int], None]

CONTENTS = "backup.json"

# Staging is left out, since a file can always be staged again; a backup would also keep merges from dropping it.
TRIPS_TABLES = (*(f"public.{color.table}" for color in COLORS.values()), "taxi.settings", "taxi.notes")

# What a restore puts nothing in the place of unasked, and what its rows are.
PRECIOUS = {color.table: "trips" for color in COLORS.values()} | {"settings": "settings", "runs": "runs"}


class Part(BaseModel):
    """One of the two dumps of a backup.

    Attributes:
        server: the major version of Postgres that it comes from.
        bytes: of the dump.
        tables: the bytes that each table had on the server, by schema and name.
        rows: of each file in the final tables; of the history, its runs.
    """

    model_config = ConfigDict(strict=True)

    server: int
    bytes: int
    sha256: str
    tables: dict[str, dict[str, int]]
    rows: dict[str, int]


class Backup(BaseModel):
    """What backup.json says of a backup; the file is written last, so where it is, the dumps are whole."""

    taxi_assets: str
    dagster: str
    time: datetime
    history: Part
    trips: Part


def back_up(folder: Path | None, progress: Progress) -> tuple[Path, Backup]:
    """Write a backup.

    Args:
        folder: made for it; where it is None, one of the time below `TAXI_HOME`.
        progress: told as it goes on.

    Returns:
        The folder, and what is in it.

    Raises:
        TaxiError: what keeps it from being written; there is no folder then.
    """
    now = datetime.now(timezone.utc).replace(microsecond=0)
    folder = (folder or taxi_home() / "backups" / f"{now:%Y-%m-%dT%H%M%SZ}").absolute()
    trips, history = _databases()
    try:
        with _begun(folder) as begun:
            # The history first: a month that loads meanwhile is then at worst in the trips and not in the history,
            # where loading it again inserts nothing. The other way round the history would tell of rows that the trips
            # do not have.
            with dagster_instance() as instance:
                instance.get_runs_count()  # it makes its tables where they are not there yet
            parts = {database.name: _dump(database, begun, progress) for database in (history, trips)}
            backup = Backup(taxi_assets=version("taxi-assets"), dagster=dg.__version__, time=now, **parts)
            with (begun / CONTENTS).open("w") as file:
                file.write(backup.model_dump_json(indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            begun.rename(folder)
    except OSError as error:
        raise TaxiError(
            f"The backup cannot be written to {folder} ({error.strerror or error}): name another folder."
        ) from None
    return folder, backup


def put_back(folder: Path, replace: bool, progress: Progress) -> Backup:
    """Restore both databases from a backup, each in one transaction.

    Args:
        folder: the backup.
        replace: what is there already.
        progress: told as it goes on.

    Raises:
        TaxiError: what is wrong with the backup, or speaks against restoring it; nothing is changed, or one of the
            databases was restored and not the other, and the message says so.
    """
    backup = _read(folder, progress)
    trips, history = _databases()
    for database in (trips, history):
        _refuse_older_server(database, _part(backup, database))
    _refuse_runs_at_work()
    for database in () if replace else (trips, history):
        _refuse_rows(database)
    # The trips first: what breaks off between the two leaves months in the trips that the history does not know, where
    # loading them again inserts nothing. A history without its trips would keep the sensor from loading them.
    _restore(trips, folder, _part(backup, trips), progress)
    try:
        _refuse_runs_at_work()  # one may have begun meanwhile
        _restore(history, folder, _part(backup, history), progress)
    except TaxiError as error:
        text = str(error)
        raise TaxiError(
            f"The trips are restored, the history is not yet, so restore again with --replace: {text}"
        ) from None
    return backup


def _databases() -> tuple[Database, Database]:
    """The trips and the history."""
    trips = Database("trips", "TAXI_POSTGRES_URL", Postgres())
    return trips, Database("history", "DAGSTER_POSTGRES_URL", Postgres(url=storage_url()))


def _part(backup: Backup, database: Database) -> Part:
    return backup.trips if database.name == "trips" else backup.history


def _named(database: Database) -> Sequence[str]:
    return TRIPS_TABLES if database.name == "trips" else history_tables()


@contextmanager
def _begun(folder: Path) -> Iterator[Path]:
    """A folder beside the one that is wanted, to be renamed when all is in it; removed where it is not.

    Those that killed backups left beside it are removed, too.
    """
    if folder.is_mount():
        raise TaxiError(f"{folder} is a whole file system, which no backup can become: name a folder in it.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TaxiError(f"{folder} is there already and not empty: name another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent):  # so that none is taken for left before its own process has locked it
        for other in folder.parent.glob(".taxi-backup-*"):
            if _is_left(other):
                shutil.rmtree(other, ignore_errors=True)
        begun = Path(tempfile.mkdtemp(prefix=".taxi-backup-", dir=folder.parent))
        held = os.open(begun, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield begun
    finally:
        os.close(held)
        shutil.rmtree(begun, ignore_errors=True)  # it is gone by that name where all went well


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_left(begun: Path) -> bool:
    """Whether the process that made it has ended."""
    try:
        handle = os.open(begun, os.O_RDONLY)
    except FileNotFoundError:  # it is done
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def _dump(database: Database, folder: Path, progress: Progress) -> Part:
    path = folder / f"{database.name}.dump"
    with snapshot(database) as (connection, seen):
        found = _find(connection, _named(database))
        if not found:
            raise TaxiError(
                f"There is nothing of the {database.name} in the database of {database.variable}: load a month first."
            )
        sizes: dict[str, dict[str, int]] = {}
        for schema, name, _, size in sorted(found):
            sizes.setdefault(schema, {})[name] = size
        named = [(schema, name) for schema, name, named, _ in found if named]
        rows, server = dict(_rows(connection, named)), server_version(connection)
        dump(database, connection, seen, named, path, _bar(f"writing {database.name}", sizes, progress))
    return Part(
        server=server, bytes=path.stat().st_size, sha256=_sha256(path, progress), tables=sizes, rows=rows
    )  # fmt: skip


def _find(connection: psycopg.Connection[Any], names: Sequence[str]) -> list[tuple[str, str, bool, int]]:
    """The tables of these names with their partitions: schema, name, whether it was named, and bytes on disk."""
    from psycopg.sql import Literal

    return connection.execute(statement("select_table_sizes", names=Literal(list(names)))).fetchall()


def _rows(connection: psycopg.Connection[Any], tables: Sequence[tuple[str, str]]) -> Iterator[tuple[str, int]]:
    """The rows of each file in the final tables, and the number of runs."""
    from psycopg.sql import SQL, Identifier

    for table in tables:
        if PRECIOUS.get(table[1]) == "trips":
            yield from connection.execute(statement("count_rows_per_file", table=Identifier(*table)))
        elif PRECIOUS.get(table[1]) == "runs":
            row = connection.execute(SQL("SELECT count(*) FROM {}").format(Identifier(*table))).fetchone()
            assert row is not None  # it counts
            yield "runs", row[0]


def _sha256(path: Path, progress: Progress) -> str:
    sum_, total, done = hashlib.sha256(), path.stat().st_size, 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sum_.update(block)
            done += len(block)
            progress(f"checking {path.stem}", done, total)
    return sum_.hexdigest()


def _bar(what: str, sizes: Mapping[str, Mapping[str, int]], progress: Progress) -> Callable[[str], None]:
    """Told of each table as it begins, tells how many bytes of tables are done."""
    left = {f"{schema}.{name}": size for schema, tables in sizes.items() for name, size in tables.items()}
    total, at = sum(left.values()), [""]

    def began(table: str) -> None:
        left.pop(at[0], None)
        at[0] = table
        progress(what, total - sum(left.values()), total)

    progress(what, 0, total)
    return began


def _read(folder: Path, progress: Progress) -> Backup:
    """What a backup says of itself, after its dumps were found to be what it says."""
    path = folder / CONTENTS
    try:
        backup = Backup.model_validate_json(path.read_bytes())
    except ValidationError:
        raise TaxiError(f"{path} is not as a backup has it: take another backup.") from None
    except OSError as error:
        raise TaxiError(
            f"{folder} is no backup ({error.strerror}: {CONTENTS}): name a folder that `taxi backup` made."
        ) from None
    for what, theirs, ours in (
        ("taxi-assets", backup.taxi_assets, version("taxi-assets")),
        # Dagster changes its tables with minor versions only.
        ("Dagster", ".".join(backup.dagster.split(".")[:2]), ".".join(dg.__version__.split(".")[:2])),
    ):
        if _number(theirs, path) > Version(ours):
            raise TaxiError(
                f"{folder} was made by {what} {theirs} and this is {ours}: install that version or a later."
            )
    for name, part in (("history", backup.history), ("trips", backup.trips)):
        dumped = folder / f"{name}.dump"
        if not dumped.is_file():
            raise TaxiError(f"{folder} is not whole, {dumped.name} is missing: take another backup.")
        if dumped.stat().st_size != part.bytes or _sha256(dumped, progress) != part.sha256:
            raise TaxiError(f"{dumped} is not as it was written, cut off or changed: take another backup.")
    return backup


def _number(text: str, path: Path) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        raise TaxiError(f"{path} names the version '{text}', which is none: take another backup.") from None


def _refuse_older_server(database: Database, part: Part) -> None:
    with database.connect() as connection:
        if server_version(connection) < part.server:
            raise TaxiError(
                f"The dump of the {database.name} is from Postgres {part.server} and the server of "
                f"{database.variable} is Postgres {server_version(connection)}: restore into Postgres {part.server} or "
                f"later."
            )


def _refuse_runs_at_work() -> None:
    with dagster_instance() as instance:
        runs = at_work(instance)
    if runs:
        raise TaxiError(
            f"{len(runs)} {'run is' if len(runs) == 1 else 'runs are'} at work ({runs[0].run_id[:8]}): wait until "
            f"`taxi status` shows none as running, or terminate them in the UI."
        )


def _refuse_rows(database: Database) -> None:
    from psycopg.sql import SQL, Identifier

    with database.connect() as connection:
        for schema, name, named, _ in _find(connection, _named(database)):
            if not named or name not in PRECIOUS:
                continue
            if (
                connection.execute(SQL("SELECT FROM {} LIMIT 1").format(Identifier(schema, name))).fetchone()
                is not None
            ):
                raise TaxiError(
                    f"{schema}.{name} in the database of {database.variable} has {PRECIOUS[name]} already: restore "
                    f"into another database, or put the backup in their place with --replace."
                )


def _restore(database: Database, folder: Path, part: Part, progress: Progress) -> None:
    with database.connect() as connection:
        first = [composed.as_string(connection) for composed in _room(database, connection, part)]
    restore(
        database, folder / f"{database.name}.dump", first, _bar(f"restoring {database.name}", part.tables, progress)
    )


def _room(database: Database, connection: psycopg.Connection[Any], part: Part) -> Iterator[Any]:
    """The statements that drop what is there of a database's tables, and make the schemas of those that come.

    Nothing is dropped that depends on them, such as a view: Postgres then refuses, and names it.
    """
    from psycopg.sql import SQL, Identifier, Literal

    if database.name == "trips":
        for color in COLORS.values():
            yield statement("lock_table", name=Literal(f"taxi_assets {color.table}"))
    tables = [Identifier(schema, name) for schema, name, named, _ in _find(connection, _named(database)) if named]
    if tables:
        yield SQL("DROP TABLE {}").format(SQL(", ").join(tables))
    there = {name for (name,) in connection.execute("SELECT nspname FROM pg_namespace")}
    for schema in part.tables.keys() - there:
        yield SQL("CREATE SCHEMA {}").format(Identifier(schema))
