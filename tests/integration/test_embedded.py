"""The embedded server: one for all processes, alive while anybody uses it, whatever became of the others."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from taxi_assets.resources import embedded

USE = """
import sys, time
from pathlib import Path
from taxi_assets.resources.embedded import embedded_postgres
print(embedded_postgres(Path(sys.argv[1]), "ny_taxi", "dagster"), flush=True)
time.sleep(float(sys.argv[2]))
"""


class use(subprocess.Popen):  # noqa: N801
    """A process that uses the server of `home` for so many seconds, at most until the `with` block fails."""

    def __init__(self, home, seconds=0.0):
        super().__init__([sys.executable, "-c", USE, str(home), str(seconds)], stdout=subprocess.PIPE, text=True)

    def __exit__(self, failed, *args):
        if failed:
            self.kill()
        super().__exit__(failed, *args)


def pid_of(home):
    return int((Path(home) / "postgres" / "data" / "postmaster.pid").read_text().split()[0])


def wait_until(true, seconds=30):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stopped(home):
    return not (Path(home) / "postgres" / "data" / "postmaster.pid").exists()


def test_processes_share_one_server_and_the_last_stops_it(home):
    users = [use(home, 3) for _ in range(3)]  # at once: one makes it, the others wait
    sockets = {user.stdout.readline() for user in users}
    assert len(sockets) == 1
    pid = pid_of(home)
    users[0].send_signal(signal.SIGKILL)
    users[0].wait()
    later = use(home, embedded.LINGER_SECONDS + 3)
    assert later.stdout.readline() in sockets
    for user in users:
        user.communicate()
    time.sleep(1)
    assert pid_of(home) == pid, "it runs on for the one who came later"
    later.communicate()
    wait_until(lambda: stopped(home))


def test_a_killed_user_does_not_keep_it_running(home):
    user = use(home, 600)
    user.stdout.readline()
    user.send_signal(signal.SIGKILL)
    user.communicate()
    wait_until(lambda: stopped(home))


def test_a_killed_server_is_started_again(home):
    with use(home, 600) as keeping:
        keeping.stdout.readline()
        killed = pid_of(home)
        os.kill(killed, signal.SIGKILL)
        with use(home) as again:
            assert again.stdout.readline()
        assert pid_of(home) != killed
        keeping.kill()
    wait_until(lambda: stopped(home))


def test_a_killed_keeper_is_replaced(home):
    def keepers():
        return subprocess.run(["pgrep", "-f", f"embedded.py {home}$"], capture_output=True, text=True).stdout.split()

    with use(home, 600) as user:
        user.stdout.readline()
        wait_until(keepers)
        os.kill(int(keepers()[0]), signal.SIGKILL)
        wait_until(lambda: not keepers())
        with use(home) as other:
            other.stdout.readline()
        wait_until(keepers)
        user.kill()
    wait_until(lambda: stopped(home))


def test_nobody_else_may_connect(home):
    with use(home, 1) as user:
        user.stdout.readline()
        socket = home / "postgres" / ".s.PGSQL.5432"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        assert stat.S_IMODE((home / "postgres" / "data").stat().st_mode) == 0o700


def test_a_long_path(open_tmp):
    home = open_tmp() / ("a" * 60) / ("b" * 60)
    with use(home) as user:
        assert user.stdout.readline()
    assert user.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a home that Postgres' user cannot reach")
def test_a_closed_home_of_root_stays_closed():
    with tempfile.TemporaryDirectory() as closed:
        before = stat.S_IMODE(Path(closed).stat().st_mode)
        assert before == 0o700
        home = Path(closed) / "project" / ".taxi"
        with use(home) as user:
            assert user.stdout.readline().startswith("/var/lib/taxi-assets/")
        assert user.returncode == 0
        assert stat.S_IMODE(Path(closed).stat().st_mode) == before
        wait_until(lambda: stopped(home))
        subprocess.run(["rm", "-r", str((home / "postgres").resolve())], check=True)


def test_data_of_another_version(home):
    data = home / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("14\n")
    with pytest.raises(embedded.EmbeddedPostgresError, match=r"was made by Postgres 14.*move the folder"):
        embedded.embedded_postgres(home, "ny_taxi")


def test_a_server_that_cannot_start(home):
    with use(home) as user:
        user.communicate()
    wait_until(lambda: stopped(home))
    (home / "postgres" / "data" / "postgresql.conf").write_text("no such setting\n")
    with pytest.raises(embedded.EmbeddedPostgresError, match=r"did not start .*its log is"):
        embedded.embedded_postgres(home, "ny_taxi")


@pytest.mark.parametrize("name", ["Bob's code", 'a"b', "a%b=c,d:e;f$g#h?i&j", "$(touch pwned)", "Ünïcode and spaces"])
def test_any_name_of_a_folder(open_tmp, name):
    with use(open_tmp() / name) as user:
        assert user.stdout.readline()
    assert user.returncode == 0


def test_a_home_that_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/taxi")):
        with pytest.raises(embedded.EmbeddedPostgresError, match="cannot use TAXI_HOME .*set TAXI_HOME to another"):
            embedded.embedded_postgres(home, "ny_taxi")
