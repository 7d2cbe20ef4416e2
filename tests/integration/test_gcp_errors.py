"""What Google's errors become: one sentence with the mend, the right class, and tables as they were."""

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dagster._core.remote_representation.external_data import RepositorySnap
from google.api_core.exceptions import from_http_status

from taxi_assets.definitions import defs
from taxi_assets.errors import TaxiError, TransientError
from taxi_assets.resources.gcp import told
from taxi_assets.resources.postgres import Postgres
from tests.emulators.bigquery import Fault, GoogleError, service_disabled
from tests.integration.cloud import services
from tests.integration.conftest import KEY
from tests.integration.test_bigquery import stage
from tests.servers import connect, rows


@pytest.fixture
def google(cloud, password_server):
    return services(Postgres(url=password_server.make_database()))


@pytest.fixture
def fault(emulators):
    """Orders what befalls the next requests that send a job."""
    fake = emulators[1]

    def order(error, times=1, method="POST", after=False):
        fake.faults.append(
            Fault(lambda request: request.method == method and "/jobs" in request.path, error, times, after)
        )

    yield order
    fake.faults.clear()


FINAL = {
    "quota": (
        GoogleError("quotaExceeded", "Quota exceeded: Your project exceeded quota for free query bytes scanned."),
        r"A quota of the project is used up \(Quota exceeded: .* for free query bytes scanned\): wait until it renews",
    ),
    "permission": (
        GoogleError("accessDenied", "Access Denied: Project p: User does not have bigquery.jobs.create permission."),
        r"Google does not allow it \(Access Denied: .*bigquery.jobs.create permission\): give the account roles/",
    ),
    "API": (service_disabled("bigquery.googleapis.com"), r"An API is switched off .*gcloud services enable"),
    "project": (
        GoogleError("notFound", "Not found: Project nowhere-at-all"),
        r"There is no such project \(Not found: Project nowhere-at-all\): `taxi settings set GCP_PROJECT_ID`",
    ),
    "location": (
        GoogleError("invalid", "Cannot read and write in different locations: source: US, destination: EU"),
        r"Bucket and dataset are not in one place \(Cannot read and write in different locations: .*\): make both in",
    ),
    "billing": (
        GoogleError("accessDenied", "Billing has not been enabled for this project."), "The project has no billing",
    ),
    "a project named billing": (
        GoogleError("accessDenied", "Access Denied: Project billing-prod: no bigquery.jobs.create."),
        "Google does not allow it .*give the account roles/",
    ),
    "cancelled": (GoogleError("stopped", "Job execution was cancelled: User requested it"), "was cancelled in"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "reason", "message"),
    [
        (403, "rateLimitExceeded", "Exceeded rate limits: too many table updates of your billing tier."),
        (400, "invalidQuery", "Could not serialize access to table p:d.t due to concurrent update"),
        (400, "tableUnavailable", "Something went wrong with the table."),
        (503, "", "Service Unavailable"),
    ],
)
def test_what_goes_by_itself_is_tried_again_by_the_step(code, reason, message):
    """The client has tried for minutes before, which is why it is not asked here."""
    error = from_http_status(code, message, errors=[{"reason": reason, "message": message}] if reason else [])
    with pytest.raises(TransientError, match="Google is busy"), told():
        raise error


@pytest.mark.parametrize("which", FINAL)
def test_what_stays_wrong_is_said_once(google, cloud, green, fault, which):
    trip_file, path = green
    stage(google, trip_file, path)
    error, said = FINAL[which]
    fault(error, times=1)
    with pytest.raises(TaxiError, match=said) as raised:
        google[1].merge(trip_file, "run")
    assert not isinstance(raised.value, TransientError)
    assert "\n" not in str(raised.value)
    assert "http://" not in str(raised.value)
    assert google[1].merge(trip_file, "run").inserted == 2000


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_google_is_asked_again(google, cloud, green, fault, code):
    trip_file, path = green
    stage(google, trip_file, path)
    fault(GoogleError("rateLimitExceeded" if code == 429 else "backendError", "Try again later.", code=code), times=2)
    assert google[1].merge(trip_file, "run").inserted == 2000


def test_a_lost_answer_to_the_merge_doubles_nothing(google, cloud, green, fault, emulators):
    trip_file, path = green
    stage(google, trip_file, path)
    emulators[1].faults.append(
        Fault(lambda request: "MERGE" in json.dumps(request.body), times=1, after=True)
    )  # fmt: skip
    assert google[1].merge(trip_file, "run").inserted == 2000
    assert cloud.one("SELECT COUNT(*) FROM {dataset}.green_tripdata") == 2000


class TokenServer(HTTPServer):
    """Google's log-in, which answers as it is told."""

    def __init__(self, status, body):
        super().__init__(("127.0.0.1", 0), TokenAnswer)
        self.status, self.body = status, body
        self.asked = []


class TokenAnswer(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.asked.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(self.server.body).encode())

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def private_key():
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def log_in(private_key, monkeypatch):
    """A service account whose log-in answers so; returns its server."""
    servers = []

    def make(status, body):
        server = TokenServer(status, body)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        account = {
            "type": "service_account", "project_id": "p", "private_key": private_key, "client_email": "a@p.example",
            "token_uri": f"http://127.0.0.1:{server.server_port}/token",
        }  # fmt: skip
        monkeypatch.setenv("GCP_CREDS", json.dumps(account))
        return server

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_account_of_the_settings_is_used(google, cloud, green, log_in):
    server = log_in(200, {"access_token": "t0ken-of-the-test", "expires_in": 3600, "token_type": "Bearer"})
    trip_file, path = green
    assert stage(google, trip_file, path).rows == 2000
    assert server.asked


@pytest.mark.parametrize(
    ("error", "description", "said"),
    [
        ("invalid_grant", "Invalid JWT Signature.", "its key was deleted; make a new one"),
        ("invalid_grant", "Invalid grant: account not found", "the service account was deleted"),
        (
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes)",
            "this machine's clock is wrong",
        ),
        ("unauthorized_client", "Client is unauthorized to retrieve access tokens", "check GCP_CREDS"),
    ],
)
def test_an_account_that_google_refuses(google, green, log_in, error, description, said):
    log_in(400, {"error": error, "error_description": description})
    trip_file, path = green
    with pytest.raises(TaxiError, match=f"Google does not accept the account .*{said}") as raised:
        stage(google, trip_file, path)
    assert not isinstance(raised.value, TransientError)
    assert "\n" not in str(raised.value)


def test_no_account(google, green, monkeypatch, tmp_path):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(TaxiError, match="There is no Google account to work as: put the service account's file"):
        stage(google, *green)


def texts_of(url):
    """Everything that a database holds, as text."""
    names = rows(url, "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables "
                      "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")  # fmt: skip
    with connect(url) as connection:
        for (name,) in names:
            for (row,) in connection.execute(f"SELECT t::text FROM {name} AS t"):
                yield row


@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars` is deprecated")  # of the snapshot
def test_no_secret_is_ever_shown(instance, cloud, home, files, log_in, private_key, monkeypatch, capfd):
    """Neither in logs, metadata and errors, of runs that succeed or fail, nor in what the UI knows of the code."""
    server = log_in(200, {"access_token": "t0ken-of-the-test", "expires_in": 3600, "token_type": "Bearer"})
    loud = {"loggers": {"console": {"config": {"log_level": "DEBUG"}}}}
    job = defs.resolve_job_def("bigquery_trips_job")
    assert job.execute_in_process(partition_key=KEY, instance=instance, run_config=loud).success
    server.status, server.body = 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    assert not job.execute_in_process(
        partition_key=KEY, instance=instance, run_config=loud, raise_on_error=False
    ).success
    monkeypatch.setenv("GCP_CREDS", os.environ["GCP_CREDS"][:-40])
    assert not job.execute_in_process(
        partition_key=KEY, instance=instance, run_config=loud, raise_on_error=False
    ).success
    printed = capfd.readouterr()
    shown = [printed.out, printed.err]
    shown += texts_of(os.environ["DAGSTER_POSTGRES_URL"])
    shown += texts_of(os.environ["TAXI_POSTGRES_URL"])
    shown += [path.read_text(errors="replace") for path in home.rglob("*") if path.is_file() and path.suffix != ".gz"]
    # What a code location tells the web server, which shows it: resources and their configuration among it.
    repository = RepositorySnap.from_def(defs.get_repository_def())
    shown.append(dg.serialize_value(repository))
    everything = "\n".join(shown)
    assert "Invalid JWT Signature" in everything, "the search looks where messages are"
    lines = [line for line in private_key.splitlines() if len(line) > 20 and "PRIVATE" not in line]
    for secret in ("t0ken-of-the-test", "PRIVATE KEY", *lines):
        assert secret not in everything


def test_an_unreachable_google_is_given_up(google, monkeypatch):
    """After a minute, here a second; Google's own client would go on for ten."""
    monkeypatch.setattr("taxi_assets.resources.bigquery.PATIENCE_SECONDS", 1.0)
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")
    began = time.monotonic()
    with pytest.raises(TransientError, match=r"^Google cannot be reached \(ConnectionError\): check the network"):
        google[1].tables()
    assert time.monotonic() - began < 30
