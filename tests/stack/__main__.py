"""`make test-stack`: the compose stack for real, under kills and a deployment, beside a load that nobody disturbs.

It needs a Docker engine; images that cannot be pulled are built of Debian's and Python's packages.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from taxi_assets.stack import make_env
from tests.stack import stand_ins

PROJECT = Path(__file__).resolve().parents[2]
NAME = "taxi-stack-test"
IMAGE = f"{NAME}:latest"
PORT, PGADMIN_PORT = "18080", "15050"
MONTHS = ("--from", "2020-01", "--to", "2020-08")
PARTITIONS = 16
KILLED = ("code", "daemon", "postgres", "webserver", "dagster-postgres", "proxy")
KILL_SECONDS = 12  # from one to the next, so that each is back when the next one goes
LONGEST = 15 * 60  # for all of it to be loaded, what was killed included
ROWS = """
SELECT filename, count(*), sum(('x' || substr(unique_row_id, 1, 8))::bit(32)::bigint) FROM {table} GROUP BY 1 ORDER BY 1
"""
console = Console(highlight=False)


class Stack:
    """One stack of docker compose, with a name, ports and passwords of its own."""

    def __init__(self, folder: Path) -> None:
        self.env = folder / ".env"
        _, login = make_env(self.env)
        assert login
        self.login = login.password
        with self.env.open("a") as env:
            env.write(
                f"TAXI_IMAGE={IMAGE}\nTAXI_PORT={PORT}\nPGADMIN_PORT={PGADMIN_PORT}\nTAXI_SOURCE=sample\n"
            )  # fmt: skip
        self.settings = {
            name: value.strip("'")
            for name, _, value in (line.partition("=") for line in self.env.read_text().splitlines())
        }

    def compose(self, *arguments: str, check: bool = True, env: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [_compose(), "--project-name", NAME, "--env-file", str(env or self.env), *arguments]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if check and done.returncode:
            raise SystemExit(f"docker compose {' '.join(arguments)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done

    def taxi(self, *arguments: str) -> str:
        return self.compose("exec", "-T", "code", "taxi", *arguments).stdout

    def sql(self, query: str, user: str = "taxi_loader", password: str = "TAXI_LOADER_PASSWORD") -> str:
        given = self.settings[password]
        return self.compose(
            "exec", "-T", "-e", f"PGPASSWORD={given}", "postgres",
            "psql", "-h", "127.0.0.1", "-U", user, "-d", "ny_taxi", "-qAt", "-F", " ", "-c", query, check=False,
        ).stdout.strip()  # fmt: skip

    def states(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for partition in json.loads(self.taxi("status", "--json")):
            found[partition["state"]] = found.get(partition["state"], 0) + 1
        return found

    def answer(self, path: str, password: str | None = None, port: str = PORT) -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
        if password:
            request.add_header("Authorization", f"Basic {b64encode(f'taxi:{password}'.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, ""

    def kill(self, service: str) -> None:
        """As a crash does: the engine is not asked, so that it starts the container again by itself."""
        container = self.compose("ps", "--quiet", service).stdout.strip()
        found = _docker("inspect", "--format", "{{.State.Pid}} {{.RestartCount}}", container)
        pid, restarts = found.split()
        _docker("run", "--rm", "--pid", "host", "--user", "0", IMAGE, "python", "-c", f"import os; os.kill({pid}, 9)")
        _wait(
            f"{service} comes back", 60,
            lambda: _docker("inspect", "--format", "{{.RestartCount}}", container) != restarts,
        )  # fmt: skip


def main() -> None:
    if not _engine():
        raise SystemExit(
            "No Docker engine answers: install one (Debian: apt-get install docker.io) and start it, or name another "
            "one in DOCKER_HOST."
        )
    folder = Path(tempfile.mkdtemp(prefix="taxi-stack-", dir="/tmp"))
    folder.chmod(0o755)  # for root, Postgres runs as another user
    _make_images()
    stack = Stack(folder)
    try:
        _refuse_weak_passwords(stack, folder)
        _start(stack)
        _ask_for_login(stack)
        _show_databases(stack)
        _load_under_kills(stack)
        _deploy(stack)
        _compare(stack, folder)
        _back_up(stack)
        _look_for_secrets(stack)
    except BaseException:
        logs = Path(tempfile.gettempdir()) / f"{NAME}.log"
        logs.write_text(stack.compose("logs", "--no-color", "--timestamps", check=False).stdout)
        console.print(f"The logs of all services are in {logs}.", style="red")
        raise
    finally:
        if "--keep" in sys.argv:
            console.print(f"It goes on: http://127.0.0.1:{PORT}, user taxi, password {stack.login}; .env in {folder}.")
        else:
            stack.compose("down", "--volumes", "--timeout", "5", check=False)
            shutil.rmtree(folder, ignore_errors=True)
    console.print("The stack holds.", style="bold green")


def _make_images() -> None:
    base = _base()
    if not _there(base):
        with _step(f"a Debian for {base}"):
            stand_ins.build_base(base)
    for image in sorted(_images()):
        if not _there(image):
            with _step(f"a stand-in for {image}"):
                stand_ins.build(image, base)
    with _step("our image"):
        subprocess.run(
            ["docker", "build", "--quiet", "--network", "host", "--tag", IMAGE, PROJECT],
            env=os.environ | ({} if _has_buildx() else {"DOCKER_BUILDKIT": "0"}), check=True, capture_output=True,
        )  # fmt: skip


def _refuse_weak_passwords(stack: Stack, folder: Path) -> None:
    with _step("weak passwords are refused, in a sentence"):
        weak = folder / "weak.env"
        weak.write_text(re.sub(r"TAXI_LOADER_PASSWORD=.*", "TAXI_LOADER_PASSWORD=taxi", stack.env.read_text()))
        assert stack.compose("up", "--detach", "--wait", env=weak, check=False).returncode
        said = stack.compose("logs", "--no-log-prefix", "preflight", env=weak).stdout
        assert said.strip().splitlines() == [
            "taxi: TAXI_LOADER_PASSWORD is shorter than 16 characters: empty it in .env, and `taxi init` makes another."
        ], said
        assert stack.compose("ps", "--services", "--status", "running", env=weak).stdout.strip() == ""
        stack.compose("down", "--volumes", env=weak)


def _start(stack: Stack) -> None:
    with _step("everything starts, and is healthy"):
        stack.compose("--profile", "gcp-local", "up", "--detach", "--wait")


def _ask_for_login(stack: Stack) -> None:
    with _step("nobody gets in without the login"):
        assert stack.answer("/server_info") == (401, "")
        assert stack.answer("/graphql") == (401, "")
        assert stack.answer("/server_info", "wrong") == (401, "")
        status, info = stack.answer("/server_info", stack.login)
        assert status == 200 and "dagster_version" in info
        assert stack.answer("/health") == (200, "ok")
        _wait("pgAdmin answers", 90, lambda: stack.answer("/login", port=PGADMIN_PORT)[0] == 200)
        published = _docker("ps", "--filter", f"label=com.docker.compose.project={NAME}", "--format", "{{.Ports}}")
        found = set(re.findall(r"(\S+:\d+)->", published))
        assert found == {f"127.0.0.1:{PORT}", f"127.0.0.1:{PGADMIN_PORT}"}, found


def _show_databases(stack: Stack) -> None:
    with _step("roles can do what they are for, and no more"):
        stack.sql("CREATE TABLE others (secret text)", "postgres", "TAXI_ADMIN_PASSWORD")
        assert stack.sql("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == "f"
        stack.sql("DROP TABLE others")
        assert stack.sql("SELECT count(*) FROM others", "postgres", "TAXI_ADMIN_PASSWORD") == "0"
        assert stack.sql("SELECT count(*) FROM others") == ""
        stack.sql("CREATE TABLE mine ()", "taxi_reader", "TAXI_READER_PASSWORD")
        assert stack.sql("SELECT to_regclass('mine') IS NULL", "postgres", "TAXI_ADMIN_PASSWORD") == "t"


def _load_under_kills(stack: Stack) -> None:
    with _step("each container is killed while a backfill runs"):
        backfill = re.findall(r"backfill (\w+):", stack.taxi("backfill", *MONTHS, "--submit"))[0]
        _wait("runs are at work", 120, lambda: len(_runs(stack, backfill, "STARTED")) > 0)
        for service in KILLED:
            time.sleep(KILL_SECONDS)
            stack.kill(service)
            console.print(f"  {service} was killed, and is back; {_told(stack)}", style="dim")
    with _step("all is loaded"):
        _wait("all is loaded", LONGEST, lambda: _loaded(stack) == PARTITIONS)
    assert stack.sql("SELECT count(*) FROM green_tripdata", "taxi_reader", "TAXI_READER_PASSWORD") != "0"


def _deploy(stack: Stack) -> None:
    with _step("the code location is replaced, and taken away, while runs are at work, and none fails"):
        backfill = re.findall(r"backfill (\w+):", stack.taxi("backfill", *MONTHS, "--all", "--submit"))[0]
        _wait("runs are at work", 120, lambda: len(_runs(stack, backfill, "STARTED")) > 0)
        stack.compose("up", "--detach", "--wait", "--force-recreate", "--no-deps", "code")
        _wait("runs are in the queue", 120, lambda: len(_runs(stack, backfill, "QUEUED")) > 0)
        stack.compose("stop", "code")
        time.sleep(40)  # in which the daemon looks at the backfill
        stack.compose("start", "code")
        _wait("all is loaded again", LONGEST, lambda: len(_runs(stack, backfill, "SUCCESS")) == PARTITIONS)
        assert not _runs(stack, backfill, "FAILURE", "CANCELED"), "runs failed"


def _compare(stack: Stack, folder: Path) -> None:
    with _step("the tables are those of a load that nobody disturbs"):
        home = folder / "undisturbed"
        given = dict.fromkeys(("TAXI_POSTGRES_URL", "DAGSTER_POSTGRES_URL"), "")
        environment = os.environ | given | {"TAXI_SOURCE": "sample", "TAXI_HOME": str(home)}
        taxi = Path(sys.executable).with_name("taxi")
        subprocess.run([taxi, "backfill", *MONTHS], env=environment, check=True, capture_output=True)
        for color in ("green", "yellow"):
            psql = [taxi, "psql", "-qAt", "-F", " ", "-c", _rows(color)]
            expected = subprocess.run(psql, env=environment, check=True, capture_output=True, text=True).stdout.strip()
            found = stack.sql(_rows(color))
            assert found == expected and len(found.splitlines()) == PARTITIONS / 2, f"{found}\nexpected:\n{expected}"
        assert stack.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'staging'") == "0"


def _back_up(stack: Stack) -> None:
    with _step("what is lost comes back from a backup"):
        stack.taxi("backup", "/var/lib/taxi/backup")
        before = stack.sql(_rows("green"))
        stack.sql("DROP TABLE green_tripdata")
        assert stack.sql(_rows("green")) == ""
        stack.taxi("restore", "/var/lib/taxi/backup", "--replace")
        assert stack.sql(_rows("green")) == before != ""
        assert _loaded(stack) == PARTITIONS


def _look_for_secrets(stack: Stack) -> None:
    with _step("no log holds a password"):
        logs = stack.compose("logs", "--no-color").stdout
        assert "STEP_SUCCESS" in logs  # they are the logs
        for name, value in stack.settings.items():
            if name.endswith(("_PASSWORD", "_HASH")):
                assert value not in logs, name


def _rows(color: str) -> str:
    return " ".join(ROWS.format(table=f"public.{color}_tripdata").split())


def _told(stack: Stack) -> str:
    done = stack.compose("exec", "-T", "code", "taxi", "status", "--json", check=False)
    if done.returncode:
        return "the history does not answer yet"
    states = [partition["state"] for partition in json.loads(done.stdout)]
    told = [f"{states.count(state)} {state}" for state in ("loaded", "running", "failed") if state in states]
    return ", ".join(told) or "nothing has begun"


def _loaded(stack: Stack) -> int:
    return stack.states().get("loaded", 0)


def _runs(stack: Stack, backfill: str, *statuses: str) -> set[str]:
    """The ids of a backfill's runs in these states, as the web server tells them."""
    query = {
        "query": "query($filter: RunsFilter) { runsOrError(filter: $filter) { ... on Runs { results { runId } } } }",
        "variables": {"filter": {"statuses": list(statuses), "tags": [{"key": "dagster/backfill", "value": backfill}]}},
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/graphql", json.dumps(query).encode(), {"Content-Type": "application/json"}
    )
    request.add_header("Authorization", f"Basic {b64encode(f'taxi:{stack.login}'.encode()).decode()}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return {run["runId"] for run in found["data"]["runsOrError"]["results"]}


def _wait(what: str, seconds: float, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"Waited {seconds:.0f} s in vain: {what}")
        time.sleep(2)


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    started = time.monotonic()
    with console.status(what):
        yield
    console.print(f"[green]✓[/green] {what} [dim]{time.monotonic() - started:.0f} s[/dim]")


def _engine() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True).returncode == 0


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def _compose() -> Path:
    return Path(sys.executable).with_name("docker-compose")


def _has_buildx() -> bool:
    return subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode == 0


def _there(image: str) -> bool:
    """Whether an image is on this machine, or can be pulled."""
    for command in ("inspect", "pull"):
        if subprocess.run(["docker", "image", command, image], capture_output=True).returncode == 0:
            return True
    return False


def _images() -> set[str]:
    """Those of other projects that docker-compose.yaml names."""
    return set(re.findall(r"^\s+image: ([\w./-]+:[\w.]+)$", (PROJECT / "docker-compose.yaml").read_text(), re.M))


def _base() -> str:
    return re.findall(r"^FROM (\S+)", (PROJECT / "Dockerfile").read_text(), re.M)[-1]


if __name__ == "__main__":
    main()
