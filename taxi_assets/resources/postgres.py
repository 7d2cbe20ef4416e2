"""The trips database: staging tables, the final tables, and the merge from one into the other.

Everything that talks to it goes through `Postgres`; what goes wrong there comes back as one sentence.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from taxi_assets.errors import BadTripFileError, TaxiError, TransientError
from taxi_assets.resources.embedded import EmbeddedPostgresError, embedded_postgres
from taxi_assets.resources.settings import setting, taxi_home
from taxi_assets.sql import postgres as statement
from taxi_assets.trip_csv import TripCsv
from taxi_assets.trips import Color, Column, TripFile, header_difference, next_month

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql
    from typing_extensions import LiteralString

NOT_A_URL = (
    "TAXI_POSTGRES_URL is not a Postgres URL: write it like postgresql://user:password@host:5432/database, "
    "with @ / : # % in the password as %40 %2F %3A %23 %25."
)
OLDEST_VERSION = 15
TRIPS_DATABASE, DAGSTER_DATABASE = "ny_taxi", "dagster"  # on the embedded server

SESSION_SETTINGS = {
    # The row id is made of values as text, so how Postgres prints them must not depend on the server's settings.
    "DateStyle": "ISO, YMD",
    "extra_float_digits": "1",
    # Where a loader was killed, its locks go within seconds, not when its statement ends.
    "client_connection_check_interval": "5s",
}


class StagingMissingError(TaxiError):
    """The merge was asked for, and there is no staging table."""


class StagingLostError(TaxiError):
    """The server crashed since the rows were copied, and emptied the staging table, which it does not log."""


@dataclass(frozen=True)
class Staged:
    """A file copied into its staging table: its rows, their bytes as CSV, and how long it took."""

    rows: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Merged:
    """A staging table merged: its rows, those of them that were inserted, and how long it took."""

    rows: int
    inserted: int
    seconds: float

    @property
    def there_already(self) -> int:
        """The rows whose id was in the table before."""
        return self.rows - self.inserted


@dataclass(frozen=True)
class Note:
    """A word about something, kept in the database."""

    connection: psycopg.Connection[Any]
    name: str

    def get(self) -> str:
        """What was noted last; empty where nothing was."""
        row = self.connection.execute("SELECT note FROM taxi.notes WHERE name = %s", (self.name,)).fetchone()
        return str(row[0]) if row else ""

    def set(self, note: str) -> None:
        """Note something else, for good."""
        self.connection.execute(statement("upsert_note", name=_literal(self.name), note=_literal(note)))


class Postgres(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A Postgres database, version 15 or later.

    Attributes:
        url: `postgresql://user:password@host:5432/database`. Unset: `TAXI_POSTGRES_URL`, else the installation's
            embedded server. Better left unset than written into code: it holds a password.
    """

    url: str | None = None

    def conninfo(self) -> str:
        """What to connect to, as libpq takes it; starts the embedded server where that is meant."""
        url = self.url or setting("TAXI_POSTGRES_URL")
        if url:
            return re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", url)  # SQLAlchemy names a driver there
        from psycopg.conninfo import make_conninfo

        try:
            host = embedded_postgres(taxi_home(), TRIPS_DATABASE, DAGSTER_DATABASE)
        except EmbeddedPostgresError as error:
            raise TaxiError(str(error)) from error
        return make_conninfo(host=host, user="postgres", dbname=TRIPS_DATABASE)

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection that commits each statement unless a transaction is opened.

        Raises:
            TaxiError: what Postgres refused, in one sentence; also for statements in the `with` block.
            TransientError: the connection was refused or lost, or Postgres asks to try again.
        """
        import psycopg

        try:
            connection = psycopg.connect(
                self.conninfo(), autocommit=True, application_name="taxi", connect_timeout=15,
                client_encoding="utf8",  # else a server without an encoding would answer in bytes
            )  # fmt: skip
        except psycopg.OperationalError as error:
            raise _connection_error(error) from None
        except psycopg.Error:  # its text would show the URL, and so the password
            raise TaxiError(NOT_A_URL) from None
        with _told(), connection:
            version = connection.info.server_version // 10_000
            if version < OLDEST_VERSION:
                raise TaxiError(
                    f"The server of TAXI_POSTGRES_URL is Postgres {version}: set "
                    f"TAXI_POSTGRES_URL to version {OLDEST_VERSION} or later."
                )
            for name, value in SESSION_SETTINGS.items():
                with contextlib.suppress(psycopg.errors.InvalidParameterValue):  # not on every platform
                    connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            yield connection

    def stage(self, trip_file: TripFile, path: Path, progress: Callable[[int, int], None] | None = None) -> Staged:
        """Copy a trip file into its staging table, made anew, all or nothing.

        Args:
            trip_file: names the table and its columns.
            path: the gzip file.
            progress: called with the numbers of rows and of bytes sent so far.

        Raises:
            BadTripFileError: naming file, line and column; the staging table is as it was before.
        """
        started = time.monotonic()
        names = _Names(trip_file)
        csv = TripCsv(path, trip_file)
        with self.connect() as connection:
            _make_schemas(connection, "staging", "partitions")
            with connection.transaction(), connection.cursor() as cursor:
                _lock(cursor, trip_file.stem)  # another run may stage or merge the same file
                cursor.execute(names.fill("DROP TABLE IF EXISTS {staging}"))
                cursor.execute(names.statement("create_staging_table", columns=_definitions(trip_file.color.columns)))
                try:
                    with cursor.copy(names.statement("copy_into_staging_table")) as copy:
                        for block in csv.blocks():
                            copy.write(block)
                            if progress:
                                progress(csv.rows, csv.bytes)
                except Exception as error:
                    raise _bad_row(error, trip_file) or error from None
                # An unlogged table is empty after a crash of the server; the note of its rows is not.
                cursor.execute(names.fill("COMMENT ON TABLE {staging} IS {rows}", rows=_literal(str(csv.rows))))
        return Staged(rows=csv.rows, bytes=csv.bytes, seconds=time.monotonic() - started)

    def merge(self, trip_file: TripFile, keep_staging: bool = False) -> Merged:
        """Insert the staged rows whose id is not in the final table yet, in one transaction, and drop staging.

        Rows of the file that share an id are all inserted the first time. Merges of one color go one after the
        other, so that none inserts what another is about to.

        Raises:
            StagingMissingError: there is no staging table.
            StagingLostError: the server has emptied it.
            TaxiError: a table of that name has other columns.
        """
        started = time.monotonic()
        names = _Names(trip_file)
        with self.connect() as connection, connection.transaction(), connection.cursor() as cursor:
            _lock(cursor, trip_file.stem)
            _lock(cursor, trip_file.color.table)
            rows = _staged_rows(cursor, names)
            table = _describe(cursor, trip_file.color)
            if table is None:
                _create_table(cursor, names)
            if table is None or table.partitioned_by_us:
                inserted = _merge_by_partition(cursor, names)
            else:
                inserted = _merge_into_plain_table(cursor, names, table)
            if not keep_staging:
                cursor.execute(names.fill("DROP TABLE {staging}"))
        return Merged(rows=rows, inserted=inserted, seconds=time.monotonic() - started)

    def staged_rows(self, trip_file: TripFile) -> int:
        """The rows in the staging table, counted.

        Raises:
            StagingMissingError: there is none.
        """
        names = _Names(trip_file)
        with self.connect() as connection, connection.transaction(), connection.cursor() as cursor:
            _lock(cursor, trip_file.stem)  # else another run may merge and drop it between two statements
            _staged_rows(cursor, names)
            return _count(cursor, names.fill("SELECT count(*) FROM {staging}"))

    def merged_rows(self, trip_file: TripFile) -> int:
        """The rows of the file in the final table, counted; 0 where there is no table."""
        return self._of_file(trip_file, "count_rows_of_file")[0] if self._has_table(trip_file) else 0

    def pickups_outside_month(self, trip_file: TripFile) -> tuple[int, int]:
        """The rows of the file in the final table, and how many of them were picked up in another month."""
        rows, outside = self._of_file(trip_file, "count_pickups_outside_month")
        return rows, outside

    def rows_sharing_an_id(self, trip_file: TripFile) -> int:
        """The rows of the file whose id another row of the file has too."""
        return int(self._of_file(trip_file, "count_shared_ids")[0])

    def id_sum(self, trip_file: TripFile) -> tuple[int, int]:
        """The rows of the file in the final table, and the sum of the first eight hex digits of their ids."""
        if not self._has_table(trip_file):
            return 0, 0
        rows, sum_ = self._of_file(trip_file, "sum_ids")
        return rows, sum_

    def preview(self, trip_file: TripFile) -> list[dict[str, Any]]:
        """Ten rows of the file in the final table."""
        from psycopg.rows import dict_row

        names = _Names(trip_file)
        with self.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(names.statement("select_preview", names=names.all_names()))
            return cursor.fetchall()

    def trips_per_day(self, trip_file: TripFile) -> list[tuple[date, int]]:
        """The file's trips for each day of its month that has any, in the order of the days."""
        with self.connect() as connection:
            return connection.execute(_Names(trip_file).statement("count_trips_per_day")).fetchall()

    def staged(self) -> set[str]:
        """The names of the staging tables that are there."""
        with self.connect() as connection:
            return _tables(connection, "staging")

    def merged(self, color: Color) -> set[str] | None:
        """The months of a color whose file has rows in the final table; None where its partitions are not ours."""
        with self.connect() as connection, connection.cursor() as cursor:
            table = _describe(cursor, color)
            if table is None:
                return set()
            if not table.partitioned_by_us:
                return None
            names = {name: _own_month(color, name) for name in _tables(connection, "partitions")}
            return {month for name, month in names.items() if month and _has_rows(cursor, ("partitions", name))}

    @contextmanager
    def alone(self, name: str) -> Iterator[Note]:
        """Keep others off something outside the database, such as a table in BigQuery, as long as the block takes.

        What is noted there outlives the block, and its process, for whoever comes next.
        """
        with self.connect() as connection:
            connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (f"taxi_assets {name}",))
            _make_schemas(connection, "taxi")
            with connection.transaction(), connection.cursor() as cursor:
                _lock(cursor, "notes")  # IF NOT EXISTS fails where two make it at once
                cursor.execute(statement("create_notes"))
            yield Note(connection, name)

    def _has_table(self, trip_file: TripFile) -> bool:
        with self.connect() as connection, connection.cursor() as cursor:
            return _describe(cursor, trip_file.color) is not None

    def _of_file(self, trip_file: TripFile, query: str) -> tuple[Any, ...]:
        with self.connect() as connection:
            row = connection.execute(_Names(trip_file).statement(query)).fetchone()
            assert row is not None  # it counts
            return tuple(row)


@dataclass(frozen=True)
class _Table:
    columns: list[str]
    partitioned_by_us: bool


class _Names:
    """Every name and value that the statements on one file and one month of pickup are filled with.

    Args:
        month: the first day of the month of pickup; that of the file where it is not given.
        source: where its rows are read from; the staging table where it is not given.
    """

    def __init__(self, trip_file: TripFile, month: date | None = None, source: str | None = None) -> None:
        from psycopg.sql import SQL, Identifier

        self.trip_file, self.color = trip_file, trip_file.color
        month = month or trip_file.first_day
        # A file's rows of one month of pickup: green_tripdata_2020_02__2020_01 holds January's strays in February.
        month_name = f"{self.color.table}_{month:%Y_%m}"
        self.table = ("public", self.color.table)
        self.staging = ("staging", trip_file.staging_table)
        self.month_partition = ("partitions", month_name)
        self.file_partition = ("partitions", f"{month_name}__{trip_file.month.replace('-', '_')}")
        columns = {column.name: Identifier(column.postgres_name) for column in self.color.columns}
        self.parts: dict[str, sql.Composable] = {
            "table": Identifier(*self.table),
            "staging": Identifier(*self.staging),
            "source": Identifier(source) if source else Identifier(*self.staging),
            "month_partition": Identifier(*self.month_partition),
            "file_partition": Identifier(*self.file_partition),
            "names": SQL(", ").join(columns.values()),
            "row_id": SQL(", ").join(columns[name] for name in self.color.row_id),
            "pickup": columns[self.color.pickup],
            "filename": _literal(trip_file.csv_name),
            "first_day": _literal(month),
            "next_month": _literal(next_month(month)),
        }

    def fill(self, text: LiteralString, **more: sql.Composable) -> sql.Composed:
        from psycopg.sql import SQL

        return SQL(text).format(**self.parts, **more)

    def statement(self, name: str, **more: sql.Composable) -> sql.Composed:
        return statement(name, **self.parts | more)

    def all_names(self) -> sql.Composed:
        from psycopg.sql import SQL, Identifier

        return SQL(", ").join(Identifier(column.postgres_name) for column in self.color.table_columns)


def _definitions(columns: tuple[Column, ...]) -> sql.Composed:
    from psycopg.sql import SQL, Identifier

    return SQL(", ").join(SQL("{} {}").format(Identifier(column.postgres_name), SQL(column.type)) for column in columns)


def _literal(value: Any) -> sql.Literal:
    from psycopg.sql import Literal

    return Literal(value)


def _lock(cursor: psycopg.Cursor[Any], name: str) -> None:
    """Wait for whoever else works on `name`, and keep others waiting until the transaction ends."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"taxi_assets {name}",))


def _make_schemas(connection: psycopg.Connection[Any], *schemas: str) -> None:
    from psycopg.sql import SQL, Identifier

    with connection.transaction(), connection.cursor() as cursor:
        _lock(cursor, "schemas")  # IF NOT EXISTS fails where two make it at once
        for schema in schemas:
            if not _count(cursor, SQL("SELECT count(*) FROM pg_namespace WHERE nspname = {}").format(_literal(schema))):
                cursor.execute(SQL("CREATE SCHEMA {}").format(Identifier(schema)))


def _staged_rows(cursor: psycopg.Cursor[Any], names: _Names) -> int:
    """The number of rows that were copied into the staging table, as it was noted then."""
    schema_and_name = ".".join(names.staging)
    if not _exists(cursor, names.staging):
        raise StagingMissingError(
            f"{schema_and_name} is not there: materialize postgres_staging_trips for {names.trip_file.partition_key} "
            f"first, or together with postgres_trips."
        )
    cursor.execute("SELECT obj_description(to_regclass(%s), 'pg_class')", (schema_and_name,))
    noted = (cursor.fetchone() or (None,))[0]
    if not noted or not _has_rows(cursor, names.staging):
        raise StagingLostError(
            f"{schema_and_name} has lost its rows, as after a crash of the server: "
            f"materialize postgres_staging_trips for {names.trip_file.partition_key} again."
        )
    return int(noted)


def _describe(cursor: psycopg.Cursor[Any], color: Color) -> _Table | None:
    cursor.execute(
        statement(
            "describe_table",
            table=_literal(f"public.{color.table}"),
            partition_key=_literal(f"RANGE ({color.pickup})"),
        )
    )
    row = cursor.fetchone()
    return _Table(*row) if row else None


def _create_table(cursor: psycopg.Cursor[Any], names: _Names) -> None:
    from psycopg.sql import Identifier

    columns = names.color.table_columns
    cursor.execute(names.statement("create_final_table", columns=_definitions(columns)))
    for column in columns:
        cursor.execute(
            names.fill(
                "COMMENT ON COLUMN {table}.{column} IS {description}",
                column=Identifier(column.postgres_name),
                description=_literal(column.description),
            )
        )


def _merge_by_partition(cursor: psycopg.Cursor[Any], names: _Names) -> int:
    """Merge into the partitions, month of pickup by month of pickup; returns the number of rows inserted."""
    cursor.execute(names.statement("create_strays"))
    cursor.execute(names.statement("select_stray_months"))
    months = [names, *(_Names(names.trip_file, month, source="strays") for (month,) in cursor.fetchall())]
    return sum(_merge_month(cursor, month) for month in months)


def _merge_month(cursor: psycopg.Cursor[Any], names: _Names) -> int:
    if not _exists(cursor, names.month_partition):
        cursor.execute(names.statement("create_month_partition"))
        cursor.execute(names.statement("attach_month_partition"))
    new_rows = names.statement("select_rows")
    if _has_partitions(cursor, names.month_partition):
        new_rows = statement("select_new_rows", rows=new_rows, merged=names.parts["month_partition"])
    if _exists(cursor, names.file_partition):
        cursor.execute(
            statement(
                "insert_into_table", target=names.parts["file_partition"], names=names.all_names(), new_rows=new_rows
            )
        )
        return cursor.rowcount
    cursor.execute(names.statement("create_file_partition", new_rows=new_rows))
    inserted = cursor.rowcount
    cursor.execute(names.statement("attach_file_partition"))
    return inserted


def _merge_into_plain_table(cursor: psycopg.Cursor[Any], names: _Names, table: _Table) -> int:
    """Merge into a table that somebody else made; every id in it is compared."""
    difference = header_difference(
        sorted(column.postgres_name for column in names.color.table_columns), sorted(table.columns)
    )
    if difference:
        raise TaxiError(
            f"{'.'.join(names.table)} is there already with other columns ({difference}): rename it, or set "
            f"TAXI_POSTGRES_URL to another database."
        )
    rows = names.statement("select_rows", first_day=_literal("-infinity"), next_month=_literal("infinity"))
    new_rows = statement("select_new_rows", rows=rows, merged=names.parts["table"])
    cursor.execute(
        statement("insert_into_table", target=names.parts["table"], names=names.all_names(), new_rows=new_rows)
    )
    return cursor.rowcount


def _exists(cursor: psycopg.Cursor[Any], name: tuple[str, str]) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (".".join(name),))
    return cursor.fetchone() == (True,)


def _has_partitions(cursor: psycopg.Cursor[Any], name: tuple[str, str]) -> bool:
    cursor.execute("SELECT EXISTS (SELECT FROM pg_inherits WHERE inhparent = to_regclass(%s))", (".".join(name),))
    return cursor.fetchone() == (True,)


def _has_rows(cursor: psycopg.Cursor[Any], name: tuple[str, str]) -> bool:
    from psycopg.sql import SQL, Identifier

    cursor.execute(SQL("SELECT EXISTS (SELECT FROM {})").format(Identifier(*name)))
    return cursor.fetchone() == (True,)


def _tables(connection: psycopg.Connection[Any], schema: str) -> set[str]:
    return {name for (name,) in connection.execute(statement("select_tables", schema=_literal(schema)))}


def _own_month(color: Color, name: str) -> str | None:
    """The month of a partition that holds a file's rows of the file's own month, `green_tripdata_2020_02__2020_02`."""
    found = re.fullmatch(rf"{color.table}_(\d{{4}})_(\d\d)__\1_\2", name)
    return f"{found[1]}-{found[2]}" if found else None


def _count(cursor: psycopg.Cursor[Any], query: sql.Composed) -> int:
    row = cursor.execute(query).fetchone()
    assert row is not None  # it counts
    return int(row[0])


@contextmanager
def _told() -> Iterator[None]:
    """Turn what Postgres says into one sentence, and into the class that says whether to try again."""
    import psycopg
    from psycopg import errors

    try:
        yield
    except psycopg.Error as error:
        said = (error.diag.message_primary or str(error)).strip().splitlines()[0]
        if isinstance(error, errors.DiskFull):
            raise TaxiError(
                f"The disk of the Postgres server is full ({said}): make room, then run this again."
            ) from None
        if isinstance(error, errors.InsufficientPrivilege):
            raise TaxiError(
                f"Postgres does not allow it ({said}): grant the user of TAXI_POSTGRES_URL the right to create schemas "
                f"and temporary tables in the database, and tables in schema public."
            ) from None
        transient = (
            errors.SerializationFailure, errors.DeadlockDetected, errors.AdminShutdown, errors.CrashShutdown,
            errors.CannotConnectNow, errors.TooManyConnections, errors.LockNotAvailable,
        )  # fmt: skip
        if isinstance(error, transient) or (isinstance(error, psycopg.OperationalError) and error.sqlstate is None):
            raise TransientError(
                f"The connection to Postgres was lost ({said}): nothing was changed; run this again."
            ) from None
        raise TaxiError(f"Postgres refused a statement ({said}, SQLSTATE {error.sqlstate}).") from error


def _connection_error(error: psycopg.OperationalError) -> TaxiError:
    """Why there is no connection, in the server's words, without the password."""
    lines = str(error).strip().splitlines()
    said = next((line for line in lines if "FATAL" in line or "failed: " in line), lines[0])
    said = re.sub(r"^.*failed: (FATAL: +)?", "", said)
    if "resolve host" in said or "translate host" in said:  # the host may be a part of the password
        said = "its host name cannot be resolved"
    if "invalid" in said and "option" in said:
        return TaxiError(NOT_A_URL)
    hints = {
        "password": "check user and password in TAXI_POSTGRES_URL",
        "host name": "check TAXI_POSTGRES_URL; in a password, @ / : # % are written %40 %2F %3A %23 %25",
        "does not exist": "create it, or check TAXI_POSTGRES_URL",
        "refused": "start the server, or check host and port in TAXI_POSTGRES_URL",
    }
    hint = next((hint for word, hint in hints.items() if word in said), "check TAXI_POSTGRES_URL and the server")
    final = "authentication failed" in said or "does not exist" in said
    return (TaxiError if final else TransientError)(f"Postgres cannot be reached ({said}): {hint}.")


def _bad_row(error: Exception, trip_file: TripFile) -> BadTripFileError | None:
    """What is wrong in the file, where Postgres' own parser refused a field; None for any other error."""
    import psycopg

    if not isinstance(error, psycopg.DataError):
        return None
    where = re.search(r"line (\d+)(?:, column (\w+))?(?:: \"(.*)\")?", error.diag.context or "")
    if not where:
        return None
    line, column, _ = where.groups()
    named = next((c.name for c in trip_file.color.columns if c.postgres_name == column), column)
    return BadTripFileError(
        f"{trip_file.gz_name}, line {int(line) + 1}{f', column {named}' if named else ''}: "  # + 1 for the header
        f"{error.diag.message_primary}. Nothing of the file was loaded; mend or fetch it again."
    )
