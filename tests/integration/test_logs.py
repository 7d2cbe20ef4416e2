"""What steps print, in a bucket: the real Google client and the real fake-gcs-server."""

import pytest

from taxi_assets.errors import TaxiError
from taxi_assets.instance import dagster_instance
from tests.integration.conftest import loaded, run


@pytest.fixture
def logs_bucket(instance, cloud, monkeypatch):
    monkeypatch.setenv("TAXI_LOGS_BUCKET", cloud.bucket)
    return cloud.storage.bucket(cloud.bucket)


def test_logs_of_a_run_are_in_the_bucket(logs_bucket, cloud):
    with dagster_instance() as instance:
        run_id = loaded(run(instance, selection=["raw_trips"])).run_id
        names = [blob.name for blob in cloud.storage.list_blobs(cloud.bucket)]
        assert names and all(name.startswith(f"dagster-logs/storage/{run_id}/compute_logs/") for name in names)
        [key, *_] = instance.compute_log_manager.get_log_keys_for_log_key_prefix(
            [run_id, "compute_logs"], io_type=_stderr()
        )  # fmt: skip
        data = instance.compute_log_manager.get_log_data(key)
        assert data.stderr is not None


def test_a_bucket_that_is_not_there(logs_bucket, monkeypatch):
    monkeypatch.setenv("TAXI_LOGS_BUCKET", "no-such-bucket")
    with pytest.raises(TaxiError) as refused, dagster_instance() as instance:
        assert instance.compute_log_manager
    assert str(refused.value) == (
        "The bucket no-such-bucket, which TAXI_LOGS_BUCKET names, is not there: make it, or leave that unset."
    )


def _stderr():
    from dagster._core.storage.compute_log_manager import ComputeIOType

    return ComputeIOType.STDERR
