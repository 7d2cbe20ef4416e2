"""Alerts of real failed runs, to a real web server and a real mail server."""

import http.server
import json
import threading

import dagster as dg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from taxi_assets import alerts
from taxi_assets.alerts import failed_run_alert
from taxi_assets.definitions import build_defs, defs
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.settings_store import SettingsStore
from tests.integration.conftest import KEY, run
from tests.ports import free_port

SECRET = "T0PS3CR3T"
CAUSE = "green_tripdata_2020-04.csv.gz ends before its gzip trailer"


class Hook(http.server.ThreadingHTTPServer):
    """A chat's web hook. Answers with the next of `answers`, and with 200 when there are none."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.got: list[tuple[str, dict[str, str]]] = []
        self.answers: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_port}/services/{SECRET}"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        self.server.got.append((self.path, json.loads(body)))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hook(monkeypatch):
    server = Hook()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("ALERT_WEBHOOK_URL", server.url)
    monkeypatch.setattr(alerts, "PAUSE_SECONDS", 0.01)
    yield server
    server.shutdown()
    server.server_close()


class Mails:
    """What a mail server has accepted, and the logins that were tried."""

    def __init__(self) -> None:
        self.got, self.logins = [], []

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.got.append((envelope.mail_from, envelope.rcpt_tos, envelope.content.decode()))
        return "250 OK"

    def __call__(self, server, session, envelope, mechanism, data):
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password == SECRET.encode(), handled=False)


@pytest.fixture
def mails():
    handler = Mails()
    handler.port = free_port()
    controller = Controller(handler, "127.0.0.1", handler.port, authenticator=handler, auth_require_tls=False)
    controller.start()
    yield handler
    controller.stop()


@pytest.fixture
def failed(instance, files):
    """A run that failed for good, for a file that broke off."""
    path = files / "green_tripdata_2020-04.csv.gz"
    path.write_bytes(path.read_bytes()[:-9])
    result = run(instance)
    assert not result.success
    return instance.get_run_by_id(result.run_id)


def tell(instance, failed):
    [event] = instance.get_records_for_run(failed.run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    with dg.build_run_status_sensor_context(
        sensor_name="failed_run_alert", dagster_instance=instance, dagster_run=failed,
        dagster_event=event.event_log_entry.get_dagster_event(), repository_def=defs.get_repository_def(),
        resources={"settings_store": SettingsStore(postgres=Postgres())},
    ) as context:  # fmt: skip
        return failed_run_alert(context.for_run_failure())


def test_a_webhook_gets_the_cause(instance, failed, hook, monkeypatch):
    monkeypatch.setenv("TAXI_URL", "https://taxi.example.org/")
    assert tell(instance, failed) is None
    [(path, alert)] = hook.got
    assert path == f"/services/{SECRET}"
    url = f"https://taxi.example.org/runs/{failed.run_id}"
    assert alert["text"].startswith(f"{KEY} failed: ") and CAUSE in alert["text"] and alert["text"].endswith(url)
    assert (alert["run"], alert["url"]) == (failed.run_id, url)


def test_mail(instance, failed, mails, monkeypatch):
    store = SettingsStore(postgres=Postgres())
    store.set("ALERT_MAIL_TO", "you@example.org")
    monkeypatch.setenv("ALERT_SMTP_URL", f"smtp://bot%40example.org:{SECRET}@127.0.0.1:{mails.port}")
    assert tell(instance, failed) is None
    [(sender, to, content)] = mails.got
    assert (sender, to) == ("bot@example.org", ["you@example.org"])
    assert f"Subject: {KEY} failed: " in content and failed.run_id in content
    assert mails.logins == [("bot@example.org", SECRET)]
    store.set("ALERT_MAIL_TO", "nobody")
    assert "Nobody is to be told" in tell(instance, failed).skip_message
    assert len(mails.got) == 1


def test_what_is_started_again_is_not_told(instance, failed, hook):
    instance.add_run_tags(failed.run_id, {alerts.WILL_RETRY: "true"})
    skipped = tell(instance, instance.get_run_by_id(failed.run_id))
    assert skipped.skip_message == f"Run {failed.run_id} is started again."
    assert hook.got == []


def test_nobody_to_tell(instance, failed):
    assert tell(instance, failed).skip_message == (
        "Nobody is to be told: neither ALERT_MAIL_TO nor ALERT_WEBHOOK_URL is set."
    )


def test_a_hook_that_is_busy_is_tried_again(instance, failed, hook):
    hook.answers = [503, 429]
    assert tell(instance, failed) is None
    assert len(hook.got) == 3


def refused(instance, failed):
    with pytest.raises(dg.Failure) as caught:
        tell(instance, failed)
    said = caught.value.description
    assert SECRET not in said and "127.0.0.1" not in said
    return said


def test_a_hook_that_refuses(instance, failed, hook):
    hook.answers = [404]
    assert refused(instance, failed) == "The webhook refuses alerts (404): correct ALERT_WEBHOOK_URL."
    assert len(hook.got) == 1


def test_a_hook_that_is_down(instance, failed, hook):
    hook.answers = [500, 502, 503]
    assert refused(instance, failed) == (
        "An alert could not be sent (HTTPError): check ALERT_WEBHOOK_URL or ALERT_SMTP_URL, and their servers."
    )


def test_one_way_that_fails_does_not_stop_the_other(instance, failed, hook, monkeypatch):
    monkeypatch.setenv("ALERT_MAIL_TO", "you@example.org")
    monkeypatch.setenv("ALERT_SMTP_URL", f"smtp://user:{SECRET}@127.0.0.1:1")
    assert refused(instance, failed).startswith("An alert could not be sent (ConnectionRefusedError)")
    assert len(hook.got) == 1


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "ALERT_MAIL_TO is set without a server: set ALERT_SMTP_URL to one like smtps://user:password@host:465."),
        (f"mail.example.org:{SECRET}", "ALERT_SMTP_URL is not like smtps://user:password@host:465: correct it."),
        ("smtp://user:wrong@127.0.0.1:{port}", "The mail server refuses the login: correct ALERT_SMTP_URL."),
    ],
)
def test_wrong_mail_settings(instance, failed, mails, monkeypatch, url, said):
    monkeypatch.setenv("ALERT_MAIL_TO", "you@example.org")
    monkeypatch.setenv("ALERT_SMTP_URL", url.replace("{port}", str(mails.port)))
    assert refused(instance, failed) == said
    assert mails.got == []


def test_a_password_never_travels_in_the_open(instance, failed, mails, monkeypatch):
    monkeypatch.setattr(alerts, "HERE", ())  # as a server somewhere else would be, which offers no TLS
    monkeypatch.setenv("ALERT_MAIL_TO", "you@example.org")
    monkeypatch.setenv("ALERT_SMTP_URL", f"smtp://user:{SECRET}@127.0.0.1:{mails.port}")
    assert refused(instance, failed) == (
        "The mail server of ALERT_SMTP_URL offers no TLS: name one that does, as smtps://."
    )
    assert mails.logins == []


def test_it_is_on_from_the_beginning():
    sensor = build_defs().resolve_sensor_def("failed_run_alert")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
