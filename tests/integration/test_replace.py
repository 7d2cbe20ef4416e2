"""A code location that is told to stop while a run is at work: the run ends, the next one waits in the queue."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import GrpcServerTarget

from taxi_assets.instance import TaxiRunLauncher, dagster_instance
from taxi_assets.sample import write_sample
from taxi_assets.trips import TripFile
from tests.integration.conftest import KEY
from tests.ports import free_port

ROWS = 400_000  # some seconds of work
DAGSTER = Path(sys.executable).with_name("dagster")


@pytest.fixture
def code_server(instance):
    port = free_port()
    process = subprocess.Popen(
        [DAGSTER, "api", "grpc", "-m", "taxi_assets.definitions", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # as in a container
    )  # fmt: skip
    yield process, GrpcServerTarget(host="127.0.0.1", port=port, socket=None, location_name="taxi_assets")
    process.kill()
    process.wait()


def wait(done, seconds=90):
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_runs_at_work_end_and_others_wait(instance, files, code_server):
    process, target = code_server
    trip_file = TripFile.of("green", "2020-04")
    write_sample(trip_file, files / trip_file.gz_name, ROWS)
    assert isinstance(instance.run_launcher, TaxiRunLauncher)
    wait(lambda: _answers(target))
    with create_test_daemon_workspace_context(target, instance) as workspace:
        location = workspace.create_request_context().get_code_location("taxi_assets")
        [repository] = location.get_repositories().values()
        job = repository.get_full_job("postgres_trips_job")

        def make():
            return instance.create_run_for_job(
                job_def=_definition(), tags={"dagster/partition": KEY, "dagster/partition/color": "green",
                                             "dagster/partition/month": "2020-04"},
                remote_job_origin=job.get_remote_origin(), job_code_origin=job.get_python_origin(),
            ).run_id  # fmt: skip

        first, second = make(), make()
        instance.launch_run(first, workspace.create_request_context())
        wait(lambda: instance.get_run_by_id(first).status == dg.DagsterRunStatus.STARTED)
        process.terminate()
        time.sleep(1)
        with pytest.raises(DagsterUserCodeUnreachableError):
            instance.launch_run(second, workspace.create_request_context())
        assert instance.get_run_by_id(first).status == dg.DagsterRunStatus.STARTED  # it was refused meanwhile
        assert process.wait(120) == 0
    assert instance.get_run_by_id(first).status == dg.DagsterRunStatus.SUCCESS


def test_how_long_runs_wait(instance):
    queue = instance.get_concurrency_config().run_queue_config
    assert queue.max_user_code_failure_retries * queue.user_code_failure_retry_delay == 2 * 60 * 60
    with dagster_instance() as again:
        assert again.get_settings("retention")["sensor"]["purge_after_days"]["skipped"] == 7


def _definition():
    from taxi_assets.definitions import defs

    return defs.resolve_job_def("postgres_trips_job")


def _answers(target):
    try:
        socket.create_connection((target.host, target.port), 1).close()
        return True
    except OSError:
        return False
