"""Backfills here and now: worker processes that take one partition after the other, and what they tell on the way.

Processes, because runs of Dagster in threads of one process wait for each other's logs for ever; warm ones, because
the start of Python costs more than a small month. `submit` leaves the same to Dagster's daemon.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from taxi_assets.errors import TaxiError
from taxi_assets.resources.settings import taxi_home

if TYPE_CHECKING:
    import dagster as dg

    from taxi_assets.trips import TripFile

TELL_SECONDS = 0.1  # between two messages on the progress of one step
BUSY_SECONDS = 0.5  # before asking again for a partition that another process has claimed
BytesDone = Callable[[int, "int | None"], None]  # and of how many, where that is known
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Order:
    """How each partition is to be loaded.

    Attributes:
        job: the job that loads it.
        asset: the last asset of that job.
        tags: of each run.
        only_missing: leave out what another process has loaded since `started`, in seconds since 1970.
    """

    job: str
    asset: str
    tags: Mapping[str, str]
    only_missing: bool
    started: float


@dataclass(frozen=True)
class Progress:
    """Where a partition is: the step that it is in, and how far, in `rows` and `bytes` of it."""

    key: str
    step: str
    rows: int | None = None
    bytes: int | None = None
    total_bytes: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a partition ended; `busy` means that another process has claimed it and it is asked for again."""

    key: str
    state: Literal["loaded", "there already", "failed", "busy"]
    rows: int = 0
    inserted: int = 0
    seconds: float = 0.0
    cause: str = ""


class Backfill:
    """Partitions loaded by worker processes. Iterate over it to run it and to hear of it.

    Args:
        keys: of the partitions, in the order in which they are begun.
        order: how each is loaded.
        jobs: the number of processes.
    """

    def __init__(self, keys: Sequence[str], order: Order, jobs: int) -> None:
        self._pending = deque(keys)
        self._order = order
        self._jobs = min(jobs, len(keys))
        self._processes: dict[Connection, SpawnProcess] = {}
        self._at_work: dict[Connection, str] = {}
        self._busy = 0  # partitions that others were found at, one after the other
        self._not_before = 0.0
        self.stops = 0

    @property
    def left(self) -> list[str]:
        """The partitions that were not begun."""
        return list(self._pending)

    def stop(self) -> None:
        """Begin no more partitions and let those at work end; when it is called again, have them roll back."""
        self.stops += 1
        if self.stops > 1:
            for process in self._processes.values():
                if process.pid:
                    os.kill(process.pid, signal.SIGINT)

    def __iter__(self) -> Iterator[Progress | Outcome]:
        try:
            while self._at_work or (self._pending and not self.stops):
                self._hand_out()
                # With a timeout: a signal must be seen, and a partition that was busy asked for again.
                for connection in wait(list(self._processes), timeout=BUSY_SECONDS):
                    assert isinstance(connection, Connection)
                    yield from self._hear(connection)
        finally:
            for connection in self._processes:
                connection.close()  # a worker ends when it finds nobody there
            for process in self._processes.values():
                process.join()

    def _hand_out(self) -> None:
        idle = [connection for connection in self._processes if connection not in self._at_work]
        while self._pending and not self.stops and time.monotonic() >= self._not_before:
            if not idle and len(self._processes) == self._jobs:
                return
            connection = idle.pop() if idle else self._hire()
            self._at_work[connection] = self._pending.popleft()
            with contextlib.suppress(OSError):  # it was killed while it was idle; its end is heard of next
                connection.send(self._at_work[connection])

    def _hire(self) -> Connection:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_work, args=(theirs, self._order))
        process.start()
        theirs.close()
        self._processes[ours] = process
        return ours

    def _hear(self, connection: Connection) -> Iterator[Progress | Outcome]:
        try:
            told = connection.recv()
        except (EOFError, ConnectionResetError):
            yield from self._bury(connection)
            return
        if isinstance(told, Outcome):
            del self._at_work[connection]
            self._busy = self._busy + 1 if told.state == "busy" else 0
            if told.state == "busy":
                self._pending.append(told.key)
                if self._busy >= len(self._pending):  # else there are others to ask for first
                    self._not_before = time.monotonic() + BUSY_SECONDS
        yield told

    def _bury(self, connection: Connection) -> Iterator[Outcome]:
        process = self._processes.pop(connection)
        process.join()
        code = process.exitcode or 0
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        cause = f"its process was ended {how}, what it had not committed was undone; see {_log()}"
        if connection in self._at_work:
            yield Outcome(self._at_work.pop(connection), "failed", cause=cause)


def submit(instance: dg.DagsterInstance, keys: Sequence[str], job: str, tags: Mapping[str, str], title: str) -> str:
    """Hand a backfill to the daemon, as the UI does; returns its id.

    Raises:
        TaxiError: there is no daemon.
    """
    from dagster._core.execution.backfill import PartitionBackfill
    from dagster._core.utils import make_new_backfill_id
    from dagster._daemon.controller import get_daemon_statuses

    from taxi_assets.definitions import defs

    if not get_daemon_statuses(instance, ["BACKFILL"])["BACKFILL"].healthy:
        raise TaxiError("No daemon is running that would take the backfill: start `taxi dev` in another terminal.")
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id=make_new_backfill_id(),
        asset_graph=defs.resolve_asset_graph(),
        partition_names=keys,
        asset_selection=sorted(defs.resolve_job_def(job).asset_layer.executable_asset_keys),
        backfill_timestamp=time.time(),
        tags=tags,
        dynamic_partitions_store=instance,
        all_partitions=False,
        title=title,
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    return backfill.backfill_id


def _work(connection: Connection, order: Order) -> None:
    """What a worker process does until nobody hands it partitions any more."""
    os.setsid()  # Ctrl-C in a terminal is for the process that hands out; it tells us
    _log().parent.mkdir(parents=True, exist_ok=True)
    with _log().open("a") as log:  # what Dagster prints of an interrupted run would break the display
        os.dup2(log.fileno(), sys.stderr.fileno())
    from taxi_assets.instance import dagster_instance

    teller = _Teller(connection)
    try:
        job = _told_defs(teller).resolve_job_def(order.job)
        with dagster_instance() as instance:
            while True:
                key = connection.recv()
                teller.key = key
                connection.send(_load(instance, job, order, key))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


def _log() -> Path:
    return taxi_home() / "dagster" / "backfill.log"


def _load(instance: dg.DagsterInstance, job: dg.JobDefinition, order: Order, key: str) -> Outcome:
    """Load a partition, unless another process is at it or was."""
    from dagster import DagsterExecutionInterruptedError

    from taxi_assets.history import CLAIM_TAG, INTERRUPTED, claimed, end_dead_runs, why

    claim = f"{order.job} {key}"
    started = time.monotonic()
    try:
        with claimed(instance, claim) as mine:
            if not mine:
                return Outcome(key, "busy")
            end_dead_runs(instance, {CLAIM_TAG: claim})
            if order.only_missing and _loaded_since(instance, order, key):
                return Outcome(key, "there already")
            result = job.execute_in_process(
                partition_key=key, instance=instance, raise_on_error=False, run_config=QUIET,
                # The daemon does not start it again: whoever started it does.
                tags={**order.tags, CLAIM_TAG: claim, "dagster/max_retries": "0"},
            )  # fmt: skip
            seconds = time.monotonic() - started
            if not result.success:
                return Outcome(key, "failed", seconds=seconds, cause=why(instance, result.run_id))
            merged = result.asset_materializations_for_node(order.asset)[0].metadata
            rows, inserted = (int(str(merged[name].value)) for name in ("dagster/partition_row_count", "rows_inserted"))
            return Outcome(key, "loaded", rows=rows, inserted=inserted, seconds=seconds)
    except (DagsterExecutionInterruptedError, KeyboardInterrupt):
        return Outcome(key, "failed", seconds=time.monotonic() - started, cause=INTERRUPTED)
    except Exception as error:  # the history's database is gone, say; another partition may find it again
        cause = str(error) if isinstance(error, TaxiError) else f"{type(error).__name__}: {error}".splitlines()[0]
        return Outcome(key, "failed", seconds=time.monotonic() - started, cause=cause)


def _loaded_since(instance: dg.DagsterInstance, order: Order, key: str) -> bool:
    import dagster as dg

    since = dg.AssetRecordsFilter(dg.AssetKey(order.asset), asset_partitions=[key], after_timestamp=order.started)
    return bool(instance.fetch_materializations(since, limit=1).records)


class _Teller:
    """Tells where the partition at work is; of a long step not more often than anybody can read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.key = self._step = ""
        self._began = self._last = 0.0

    def begin(self, step: str) -> None:
        self._step, self._began, self._last = step, time.monotonic(), 0.0
        self.tell()

    def tell(self, rows: int | None = None, done: int | None = None, total: int | None = None) -> None:
        now = time.monotonic()
        if now < self._last + TELL_SECONDS:
            return
        self._last = now
        with contextlib.suppress(OSError):  # nobody listens any more; what has begun is brought to its end
            self._connection.send(Progress(self.key, self._step, rows, done, total, now - self._began))

    def also(self, progress: BytesDone | None) -> BytesDone:
        """A progress of bytes that tells, and calls another one."""

        def tell(done: int, total: int | None) -> None:
            self.tell(done=done, total=total)
            if progress:
                progress(done, total)

        return tell


def _told_defs(teller: _Teller) -> dg.Definitions:
    """The definitions with resources that tell how far they are."""
    from taxi_assets.definitions import build_defs
    from taxi_assets.resources.postgres import Merged, Postgres, Staged
    from taxi_assets.resources.source import RawFile, TripSource

    class ToldSource(TripSource):
        def fetch(self, trip_file: TripFile, progress: BytesDone | None = None) -> RawFile:
            teller.begin("fetch")
            return super().fetch(trip_file, teller.also(progress))

    class ToldPostgres(Postgres):
        def stage(self, trip_file: TripFile, path: Path, progress: Callable[[int, int], None] | None = None) -> Staged:
            def tell(rows: int, done: int) -> None:
                teller.tell(rows, done)
                if progress:
                    progress(rows, done)

            teller.begin("stage")
            return super().stage(trip_file, path, tell)

        def merge(self, trip_file: TripFile, keep_staging: bool = False) -> Merged:
            teller.begin("merge")
            return super().merge(trip_file, keep_staging)

        def pickups_outside_month(self, trip_file: TripFile) -> tuple[int, int]:
            teller.begin("check")
            return super().pickups_outside_month(trip_file)

    return build_defs({"source": ToldSource(), "postgres": ToldPostgres(), **_told_google_cloud(teller)})


def _told_google_cloud(teller: _Teller) -> Mapping[str, object]:
    from taxi_assets.resources.bigquery import BigQuery, Counted, Merged, Staged
    from taxi_assets.resources.cloud_storage import CloudStorage, Uploaded
    from taxi_assets.resources.postgres import Postgres
    from taxi_assets.resources.settings_store import SettingsStore

    class ToldCloudStorage(CloudStorage):
        def upload(self, trip_file: TripFile, path: Path, progress: BytesDone | None = None) -> Uploaded:
            teller.begin("upload")
            return super().upload(trip_file, path, teller.also(progress))

    class ToldBigQuery(BigQuery):
        def stage(self, trip_file: TripFile, run_id: str) -> Staged:
            teller.begin("stage")
            return super().stage(trip_file, run_id)

        def merge(self, trip_file: TripFile, run_id: str) -> Merged:
            teller.begin("merge")
            return super().merge(trip_file, run_id)

        def count(self, trip_file: TripFile, days_outside: Sequence[date], run_id: str) -> Counted:
            teller.begin("check")
            return super().count(trip_file, days_outside, run_id)

    store = SettingsStore(postgres=Postgres())
    return {"cloud_storage": ToldCloudStorage(settings_store=store), "bigquery": ToldBigQuery(settings_store=store)}
