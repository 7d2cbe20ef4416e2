"""Postgres' own pg_dump, pg_restore and psql: tables of a database into a file, and back.

Which tables these are, and what else makes a backup, is in `backup`; passwords reach the programs by their environment.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from taxi_assets.errors import TaxiError
from taxi_assets.resources.embedded import EmbeddedPostgresError, binary
from taxi_assets.resources.postgres import Postgres

if TYPE_CHECKING:
    import psycopg

AT_A_TABLE = re.compile(r'(?:dumping contents of|processing data for) table "(.+)"')

# Of what a connection was made with: a secret that no environment variable can carry, what was for that connection
# alone, and what it has resolved.
LEFT_OUT = {"sslpassword", "client_encoding", "application_name", "fallback_application_name", "service", "options"}

# pg_restore writes for its own version, and older servers do not know these. They stand above all else in a script.
HEADER_LINES = 40
NEWER_SETTINGS = {b"SET transaction_timeout = 0;\n": 17}

LOCK_SECONDS = 60  # for which a restore waits for somebody who uses the tables


@dataclass(frozen=True)
class Database:
    """One of the two databases of an installation.

    Attributes:
        name: what it is called in a backup, `trips` or `history`.
        variable: the setting that says where it is.
    """

    name: str
    variable: str
    postgres: Postgres

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection as `Postgres.connect` makes it, with errors that name the setting of this database."""
        try:
            with self.postgres.connect() as connection:
                yield connection
        except TaxiError as error:
            raise type(error)(str(error).replace("TAXI_POSTGRES_URL", self.variable)) from error.__cause__


@dataclass(frozen=True)
class _Programs:
    folder: Path
    version: int

    def path(self, name: str) -> str:
        return str(self.folder / name)


@cache
def _programs() -> _Programs:
    """The programs that come with the embedded server, or those on the PATH where they are newer."""
    try:
        own = binary("pg_dump")
    except EmbeddedPostgresError:  # there is none for this system
        own = None
    found = [_Programs(Path(path).parent, _version(path)) for path in (own, shutil.which("pg_dump")) if path]
    if not found:
        raise TaxiError("There is no pg_dump here: install the client programs of Postgres.")
    return max(found, key=lambda programs: programs.version)


def _version(path: str) -> int:
    said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
    number = re.search(r"\) (\d+)", said)
    return int(number[1]) if number else 0


def server_version(connection: psycopg.Connection[Any]) -> int:
    """The major version of the server."""
    return connection.info.server_version // 10_000


@contextmanager
def snapshot(database: Database) -> Iterator[tuple[psycopg.Connection[Any], str]]:
    """A connection that sees the database as it is now, however long the block takes, and the name of what it sees."""
    import psycopg

    with database.connect() as connection:
        for timeout in ("statement_timeout", "idle_in_transaction_session_timeout"):
            connection.execute("SELECT set_config(%s, '0', false)", (timeout,))
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            row = connection.execute("SELECT pg_export_snapshot()").fetchone()
            assert row is not None  # it returns one
            yield connection, str(row[0])


def dump(
    database: Database,
    connection: psycopg.Connection[Any],
    seen: str,
    tables: Sequence[tuple[str, str]],
    path: Path,
    began: Callable[[str], None],
) -> None:
    """Write tables with their partitions into a file in pg_dump's custom format.

    Args:
        database: where they are.
        connection: of `snapshot`.
        seen: the name of what that sees.
        tables: schema and name of each.
        path: the file, made anew.
        began: called with `schema.name` of each table as its rows begin to be written.

    Raises:
        TaxiError: pg_dump failed, or is older than the server.
    """
    from psycopg.sql import Identifier

    programs = _programs()
    if server_version(connection) > programs.version:
        raise TaxiError(
            f"The server of {database.variable} is Postgres {server_version(connection)}, pg_dump here is "
            f"{programs.version} and reads no newer ones: install the client programs of Postgres "
            f"{server_version(connection)}, and put them on the PATH."
        )
    target, environment = _reached(database, connection)
    patterns = [f"--table-and-children={Identifier(*table).as_string(connection)}" for table in tables]
    command = [
        programs.path("pg_dump"), "--format=custom", "--verbose", "--no-password", "--no-owner", "--no-acl",
        "--encoding=UTF8", f"--snapshot={seen}", f"--file={path}", f"--dbname={target}",
    ]  # fmt: skip
    # Its messages come through a pipe of ours: where this process is killed, pg_dump ends at its next one.
    with _started([*command, *patterns], environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as program:
        assert program.stderr is not None  # it is a pipe
        said = _follow(program.stderr, began)
        if program.wait():
            raise TaxiError(
                f"The {database.name} could not be written to {path.parent} ({_why(said, 'error: ')}): "
                f"correct that, then run this again."
            )


def restore(database: Database, path: Path, first: Sequence[str], began: Callable[[str], None]) -> None:
    """Put a file of `dump` into a database, in one transaction.

    Args:
        database: where to.
        path: the file.
        first: statements that make room for it, in the same transaction.
        began: called with `schema.name` of each table as its rows begin to be written.

    Raises:
        TaxiError: the file or a statement was refused; the database is as it was before.
    """
    with database.connect() as connection:
        version = server_version(connection)
        target, environment = _reached(database, connection)
    begin = ["BEGIN", "SET client_min_messages = warning", f"SET lock_timeout = '{LOCK_SECONDS}s'", *first]
    with _psql(database, target, environment) as (psql, commit), closing(_script(path, version, began)) as script:
        psql.write("".join(f"{statement};\n" for statement in begin).encode())
        for part in script:
            psql.write(part)
        commit()


def _script(path: Path, version: int, began: Callable[[str], None]) -> Generator[bytes, None, None]:
    """The statements and rows of a file, for a server of some version; an error where they are not complete."""
    command = [_programs().path("pg_restore"), "--verbose", "--no-owner", "--no-acl", "--file=-", str(path)]
    with (
        _started(command, _environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program,
        ThreadPoolExecutor(1) as threads,
    ):
        assert program.stdout is not None and program.stderr is not None  # they are pipes
        following = threads.submit(_follow, program.stderr, began)
        try:
            for line in islice(program.stdout, HEADER_LINES):
                if version >= NEWER_SETTINGS.get(line, 0):
                    yield line
            while part := program.stdout.read(1 << 20):
                yield part
            if program.wait():
                raise TaxiError(
                    f"pg_restore cannot read {path} ({_why(following.result(), 'error: ')}): take another backup; "
                    f"nothing was changed in the database of the {path.stem}."
                )
        finally:
            program.kill()


@contextmanager
def _psql(
    database: Database, target: str, environment: Mapping[str, str]
) -> Iterator[tuple[IO[bytes], Callable[[], None]]]:
    """What psql runs, statement by statement, ending at the first that fails; and what commits it at last."""
    command = [
        _programs().path("psql"), "--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-",
        target,
    ]  # fmt: skip
    with tempfile.TemporaryFile() as said:
        with _started(command, environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said) as program:
            assert program.stdin is not None and program.stdout is not None  # they are pipes
            script, answers = program.stdin, program.stdout

            def commit() -> None:
                # Not psql's --single-transaction, which would commit also where what it reads breaks off; and not
                # before it has run all else: the word for it would wait in the pipe, and outlive this process.
                script.write(b"\\echo done\n")
                script.flush()
                if answers.readline() == b"done\n":
                    script.write(b"COMMIT;\n")

            try:
                with contextlib.suppress(BrokenPipeError):  # it has ended, and below is why
                    script.write(b"\\o /dev/null\n")  # what queries answer
                    yield script, commit
                    script.close()
                failed = program.wait()
            finally:
                program.kill()
                with contextlib.suppress(BrokenPipeError):
                    script.close()
        if failed:
            said.seek(0)
            lines = said.read().decode(errors="replace").splitlines()
            raise TaxiError(
                f"The {database.name} could not be restored ({_why(lines, 'ERROR:', 'FATAL:')}{_dependents(lines)}): "
                f"nothing was changed in the database of {database.variable}; correct that, then restore again."
            )


@contextmanager
def _started(
    command: Sequence[str], environment: Mapping[str, str], stdin: int = subprocess.DEVNULL, **pipes: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that does not outlive the block."""
    program: subprocess.Popen[bytes] = subprocess.Popen(command, env=environment, stdin=stdin, **pipes)
    with program:
        try:
            yield program
        except BaseException:
            program.kill()
            raise


def _reached(database: Database, connection: psycopg.Connection[Any]) -> tuple[str, dict[str, str]]:
    """How the programs connect as a connection did: what they may have as an argument, and their environment."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    parameters = {name: value for name, value in connection.info.get_parameters().items() if name not in LEFT_OUT}
    options = conninfo_to_dict(database.postgres.conninfo()).get("options")  # not those of PGOPTIONS
    return make_conninfo("", **parameters, options=options), _environment(connection.info.password)


def _environment(password: str = "") -> dict[str, str]:
    """Ours without what libpq reads, which the connection has resolved, and with messages that can be read here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C"} | ({"PGPASSWORD": password} if password else {})


def _follow(lines: Iterable[bytes], began: Callable[[str], None]) -> list[str]:
    """Tell of each table that a program says it is at; returns what else it says."""
    said = []
    for line in lines:
        text = line.decode(errors="replace").rstrip()
        table = AT_A_TABLE.search(text)
        if table:
            began(table[1])
        else:
            said.append(text)
    return said


def _why(lines: Sequence[str], *marks: str) -> str:
    """What stands behind the first mark; else the last line."""
    for line in lines:
        for mark in marks:
            if mark in line:
                return line.partition(mark)[2].strip()
    return lines[-1].strip() if lines else "it gave no reason"


def _dependents(lines: Sequence[str]) -> str:
    """What keeps a table from being dropped, as Postgres says it."""
    found = [line.partition("DETAIL:")[2].strip() for line in lines if "DETAIL:" in line and " depends on " in line]
    return f": {found[0]}" if found else ""
