"""What Dagster's history says: which runs live, why one failed, what was loaded last.

A process that works on something holds an advisory lock of that name in the database of Dagster's history: the
database lets go of it when the process ends, however it ends, so a lock that is free tells of a death.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# Of runs whose process holds a claim on the partition from before they start until after they end.
CLAIM_TAG = "taxi/claim"
CHECK_FAILED = "DagsterAssetCheckFailedError"  # what Dagster calls it when a check stops a run
POD_TAG = "dagster/image"  # of runs that Dagster's launcher for Kubernetes started

# A run whose connection broke loses its lock and lives; until it is found dead it must not have written an event for
# this long. Steps write one each 10 seconds, and wait for at most 40 before they try again.
QUIET_SECONDS = 90

PAGE = 500  # events asked for at once

INTERRUPTED = "interrupted: what it had not committed was undone"
LOST = "its process ended before it was done; what it had not committed was undone"


def run_lock(run_id: str) -> str:
    """The name of the lock that the process of a run holds from its first event to its last."""
    return f"run {run_id}"


@contextmanager
def claimed(instance: dg.DagsterInstance, claim: str) -> Iterator[bool]:
    """Claim something, such as a partition, as long as the block takes; False where another process has it."""
    with _connected(instance) as connection, held(connection, f"claim {claim}") as mine:
        yield mine


@contextmanager
def held(connection: Connection, name: str, wait: bool = False) -> Iterator[bool]:
    """Hold a lock as long as the block takes; False where another process holds it.

    Args:
        connection: to the database of the history, kept for the block.
        name: of the lock.
        wait: until nobody else holds it.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    key = {"name": f"taxi_assets {name}"}

    def call(function: str) -> bool:
        query = text(f"SELECT pg_{function}(hashtextextended(:name, 0))")
        return connection.execute(query, key).scalar() is not False

    got = call("advisory_lock" if wait else "try_advisory_lock")
    try:
        yield got
    finally:
        if got:
            with contextlib.suppress(DBAPIError):  # where the connection is gone, so is the lock
                call("advisory_unlock")


def is_alive(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether some process works on a run that has started and not ended."""
    if CLAIM_TAG in run.tags:
        return not _free(instance, f"claim {run.tags[CLAIM_TAG]}")
    records = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    quiet = not records or time.time() - records[0].timestamp > QUIET_SECONDS
    return not quiet or not _free(instance, run_lock(run.run_id))


def end_dead_runs(instance: dg.DagsterInstance, tags: dict[str, str] | None = None) -> None:
    """Report the runs as failed whose process was killed before it could do so itself.

    Args:
        instance: the history.
        tags: of the runs to look at; those of a claim that this process holds are dead, since it holds it.
    """
    started = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    for run in instance.get_runs(dg.RunsFilter(statuses=started, tags=tags)):
        if run.tags.get(POD_TAG):
            continue  # it holds no lock here, and whoever launched it looks after it
        waits_for_daemon = run.status == DagsterRunStatus.NOT_STARTED and CLAIM_TAG not in run.tags
        mine = tags is not None and CLAIM_TAG in tags
        if not waits_for_daemon and (mine or not is_alive(instance, run)):
            instance.report_run_failed(run, f"{run.job_name}: {LOST}.")


def at_work(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """The runs that some process works on, or is about to; not those that wait in the queue."""
    end_dead_runs(instance)
    begun = [
        DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING,
    ]  # fmt: skip
    runs = instance.get_runs(dg.RunsFilter(statuses=begun))
    return [run for run in runs if run.status != DagsterRunStatus.NOT_STARTED or CLAIM_TAG in run.tags]


def why(instance: dg.DagsterInstance, run_id: str) -> str:
    """Why a run failed, in the words of the step that did, or of Dagster where no step did."""
    failures = (DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED)
    for kind in failures:
        for record in instance.get_records_for_run(run_id, of_type=kind, limit=1).records:
            event = record.event_log_entry.get_dagster_event()
            if not event.is_step_failure:
                return LOST if LOST in (event.message or "") else str(event.message).strip()
            data = event.step_failure_data
            if "Interrupted" in str(data.error):
                return INTERRUPTED
            if data.user_failure_data:
                return str(data.user_failure_data.description)
            if data.error and data.error.cls_name == CHECK_FAILED and (said := _failed_checks(instance, run_id)):
                return said
            return str(((data.error and data.error.cause) or data.error or event).message).strip()
    return "it left no reason; its log is in the UI"


def _failed_checks(instance: dg.DagsterInstance, run_id: str) -> str:
    """What the checks say that stopped a run."""
    records = instance.get_records_for_run(run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION).records
    found = [record.event_log_entry.asset_check_evaluation for record in records]
    return " ".join(
        check.description
        for check in found
        if check and not check.passed and check.severity == dg.AssetCheckSeverity.ERROR and check.description
    )


def latest(instance: dg.DagsterInstance, asset: str) -> dict[str, Mapping[str, Any]]:
    """Of each partition of an asset that was ever materialized: the metadata of the last time."""
    key = dg.AssetKey(asset)
    ids = instance.event_log_storage.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION)
    found: dict[str, Mapping[str, Any]] = {}
    numbers = sorted(ids.values())
    for start in range(0, len(numbers), PAGE):
        some = numbers[start : start + PAGE]
        wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=some)
        for record in instance.fetch_materializations(wanted, limit=len(some)).records:
            materialization = record.asset_materialization
            if record.partition_key and materialization:
                found[record.partition_key] = {name: value.value for name, value in materialization.metadata.items()}
    return found


def last(instance: dg.DagsterInstance, asset: str, partition_key: str) -> Mapping[str, Any]:
    """The metadata of a partition's last materialization; empty where there was none."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition_key])
    for record in instance.fetch_materializations(wanted, limit=1).records:
        if record.asset_materialization:
            return {name: value.value for name, value in record.asset_materialization.metadata.items()}
    return {}


def _free(instance: dg.DagsterInstance, name: str) -> bool:
    with _connected(instance) as connection, held(connection, name) as free:
        return free


def _connected(instance: dg.DagsterInstance) -> AbstractContextManager[Connection]:
    connected: AbstractContextManager[Connection] = instance.run_storage.connect()  # type: ignore[attr-defined]
    return connected
