"""An installation whose trips and history are on a real server, and runs in it."""

import dagster as dg
import pytest

from taxi_assets.definitions import build_defs
from taxi_assets.instance import dagster_instance
from taxi_assets.sample import write_sample
from taxi_assets.trips import COLORS, TripFile

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


def run(instance, key=KEY, selection=None, config=None, tags=None, **overrides):
    return (
        build_defs(overrides)
        .resolve_job_def("postgres_trips_job")
        .execute_in_process(
            partition_key=key,
            instance=instance,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(name) for name in selection] if selection else None,
            tags=tags,
            run_config=CONFIG | ({"ops": {"postgres_trips": {"config": config}}} if config else {}),
        )
    )


def failure(result):
    [event] = [event for event in result.all_events if event.is_step_failure]
    return event.step_key, event.step_failure_data.user_failure_data
