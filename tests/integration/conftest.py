"""An installation whose trips and history are on a real server, and runs in it."""

import dagster as dg
import pytest

from taxi_assets.definitions import build_defs
from taxi_assets.instance import dagster_instance
from taxi_assets.sample import write_sample
from taxi_assets.trips import COLORS, TripFile
from tests.emulators.bigquery import FakeBigQuery
from tests.emulators.storage import StorageEmulator
from tests.integration.cloud import GIVEN, Cloud

KEY = "green|2020-04"
CONFIG = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def files(tmp_path):
    """A folder with small sample months, as the source."""
    folder = tmp_path / "files"
    folder.mkdir()
    for color in COLORS:
        trip_file = TripFile.of(color, "2020-04")
        write_sample(trip_file, folder / trip_file.gz_name, rows=1000)
    return folder


@pytest.fixture
def instance(password_server, home, files, monkeypatch):
    """What `dagster` uses when the environment names a server."""
    monkeypatch.setenv("TAXI_POSTGRES_URL", password_server.make_database())
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", password_server.make_database())
    monkeypatch.setenv("TAXI_SOURCE", str(files))
    with dagster_instance() as instance:
        yield instance


def run(instance, key=KEY, selection=None, config=None, tags=None, target="postgres", **overrides):
    return (
        build_defs(overrides)
        .resolve_job_def(f"{target}_trips_job")
        .execute_in_process(
            partition_key=key,
            instance=instance,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(name) for name in selection] if selection else None,
            tags=tags,
            run_config=CONFIG | ({"ops": {f"{target}_trips": {"config": config}}} if config else {}),
        )
    )


def loaded(result):
    """The result of a run that must have succeeded; else its causes."""
    causes = [
        str(event.event_specific_data.error.to_string())[-1500:]
        for event in result.all_events
        if event.is_step_failure or event.is_failure
    ]
    assert result.success, "\n".join(causes)
    return result


def failure(result):
    [event] = [event for event in result.all_events if event.is_step_failure]
    return event.step_key, event.step_failure_data.user_failure_data


@pytest.fixture(scope="session")
def emulators(open_tmp):
    """Cloud Storage and BigQuery on this machine."""
    with StorageEmulator(open_tmp()) as storage, FakeBigQuery(storage.url) as fake:
        yield storage, fake


def pytest_runtest_setup(item):
    """Before any fixture is made for nothing, and from one place, so that pytest tells of it in one line."""
    where = getattr(item, "callspec", None) and item.callspec.params.get("cloud")
    if where == "Google" and not GIVEN["TAXI_LIVE_GCP"]:
        pytest.skip("no real Google Cloud: set TAXI_LIVE_GCP=1, GCP_PROJECT_ID and an account, docs/bigquery.md")
    if where == "Google" and not GIVEN["GCP_PROJECT_ID"]:
        pytest.fail("TAXI_LIVE_GCP is set without GCP_PROJECT_ID: put it, and GCP_CREDS, into the environment or .env")


@pytest.fixture(params=["emulators"])
def cloud(request, monkeypatch):
    """A bucket and a dataset of their own, named by the environment; modules may ask for Google's too."""
    if request.param == "emulators":
        storage, fake = request.getfixturevalue("emulators")
        cloud = Cloud(storage.url, fake.url)
    else:
        if "emulators" in request.fixturenames:
            pytest.skip("it needs what only emulators can be told to do")
        cloud = Cloud()
    cloud.use(monkeypatch)
    cloud.make()
    yield cloud
    if cloud.live:
        cloud.remove()
