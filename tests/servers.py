"""Real Postgres servers of the versions in the wheel, started, crashed and restarted by tests."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from taxi_assets.resources import embedded
from tests.ports import free_port


class Server:
    """One server of its own, by socket without a password, or by TCP with one."""

    password = "t0p secret/with:odd@signs"

    def __init__(self, folder: Path, version: int, tcp: bool) -> None:
        package = embedded._package()[0]
        self.binaries = package / ("pginstall" if version == 16 else f"pginstall{version}") / "bin"
        self.folder, self.version, self.tcp = folder, version, tcp
        self.user = embedded._unprivileged_user() if os.geteuid() == 0 else None
        if self.user:
            os.chown(folder, self.user, -1)
        self.port = free_port()

    def start(self) -> None:
        if not (self.folder / "data").exists():
            secret = self.folder / "password"
            secret.write_text(self.password)
            auth = "scram-sha-256" if self.tcp else "trust"
            # One has no encoding, as servers have that were made in a bare environment.
            encoding = "SQL_ASCII" if self.tcp else "UTF8"
            options = [f"--pwfile={secret}", f"--auth={auth}", f"--encoding={encoding}", "--locale=C"]
            self._run("initdb", "--username=postgres", "--no-sync", *options)
        listen = "127.0.0.1" if self.tcp else ""
        # Not synchronized: that would only matter if the machine lost its power.
        options = (
            f"-p {self.port} -c fsync=off -c listen_addresses='{listen}' -c unix_socket_directories='{self.folder}'"
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                self._run("pg_ctl", "start", "--wait", "-o", options, f"--log={self.folder / 'log'}")
                return
            except subprocess.CalledProcessError:  # the processes of a killed server need a moment
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "stop", "--wait", f"--mode={mode}")

    def crash(self) -> None:
        """As when the machine loses its power: no process gets to write anything."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def url(self, database: str, password: str | None = None) -> str:
        from urllib.parse import quote

        if self.tcp:
            secret = quote(password or self.password, safe="")
            return f"postgresql://postgres:{secret}@127.0.0.1:{self.port}/{database}"
        return f"postgresql://postgres@/{database}?host={quote(str(self.folder), safe='')}&port={self.port}"

    def make_database(self) -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(make_conninfo(self.url("postgres")), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def _run(self, program: str, *arguments: str) -> None:
        as_user: dict[str, Any] = {"user": self.user, "extra_groups": []} if self.user else {}
        command = [str(self.binaries / program), "-D", str(self.folder / "data"), *arguments]
        subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user)


def connect(url: str, **options: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(url, client_encoding="utf8", **options)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with connect(url) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


def one(url: str, query: str) -> Any:
    return rows(url, query)[0][0]
