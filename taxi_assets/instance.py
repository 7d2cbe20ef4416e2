"""Dagster's own storage: its history in the same Postgres, its logs in the installation's folder.

dagster.yaml names these classes, so that `dagster`, `dg`, `taxi` and the daemon see one history with nothing to
configure. They only find out where things are and who is alive; the storage itself is dagster-postgres.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import dagster as dg
from dagster._core.errors import DagsterLaunchFailedError, DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.runs.schema import RunStorageSqlMetadata
from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from sqlalchemy import create_engine

from taxi_assets.errors import TaxiError
from taxi_assets.history import LOST, held, is_alive, run_lock
from taxi_assets.resources.dumps import Database
from taxi_assets.resources.embedded import embedded_postgres
from taxi_assets.resources.postgres import DAGSTER_DATABASE, TRIPS_DATABASE, Postgres
from taxi_assets.resources.settings import PROJECT, setting, taxi_home

if TYPE_CHECKING:
    from dagster._core.storage.compute_log_manager import ComputeLogManager

RUN_ENDS = (
    dg.DagsterEventType.PIPELINE_SUCCESS, dg.DagsterEventType.PIPELINE_FAILURE, dg.DagsterEventType.PIPELINE_CANCELED,
)  # fmt: skip


STOPPING = "telling it to shut down"  # in what a code server answers that was told to stop


def dagster_instance() -> dg.DagsterInstance:
    """The instance that `dagster` uses when it is called in the project's folder.

    Raises:
        TaxiError: the server of `DAGSTER_POSTGRES_URL` cannot be used, and why.
    """
    if url := setting("DAGSTER_POSTGRES_URL"):
        with Database("history", "DAGSTER_POSTGRES_URL", Postgres(url=url)).connect():
            pass  # says at once, and in a sentence, what Dagster says after ten seconds and by a traceback
    return dg.DagsterInstance.from_config(str(PROJECT))


def history_tables() -> list[str]:
    """The names of all tables in which this version of Dagster keeps its history."""
    parts = (RunStorageSqlMetadata, SqlEventLogStorageMetadata, ScheduleStorageSqlMetadata)
    return [*(name for part in parts for name in part.tables), "alembic_version"]


def migrate(tell: Callable[[str], None]) -> None:
    """Bring the tables of the history to what this version of Dagster wants; `dagster instance migrate` in a sentence.

    Raises:
        TaxiError: a later version of Dagster has had them already.
    """
    from alembic.util import CommandError

    try:
        with dagster_instance() as instance:
            instance.upgrade(tell)
    except CommandError as error:
        raise TaxiError(
            f"The history was written by a later Dagster than {dg.__version__} ({error}): go back to that version, or "
            f"restore the backup from before it."
        ) from None


class TaxiEventLog(PostgresEventLogStorage):
    """Dagster's event log, which shows of each run that this process executes that it is alive."""

    def __init__(self, postgres_url: str) -> None:
        super().__init__(postgres_url)
        self._at_work: dict[str, ExitStack] = {}

    def store_event(self, event: dg.EventLogEntry) -> None:
        super().store_event(event)
        if event.dagster_event_type == dg.DagsterEventType.PIPELINE_START:
            self._at_work[event.run_id] = stack = ExitStack()
            stack.enter_context(held(stack.enter_context(self._connect()), run_lock(event.run_id), wait=True))
        elif event.dagster_event_type in RUN_ENDS and event.run_id in self._at_work:
            self._at_work.pop(event.run_id).close()


class TaxiStorage(DagsterPostgresStorage):
    """`DAGSTER_POSTGRES_URL`, or a database of its own on the embedded server."""

    def __init__(self, postgres_url: str, inst_data: Any = None) -> None:
        super().__init__(postgres_url, inst_data=inst_data)
        self._event_log_storage = TaxiEventLog(postgres_url)
        # dagster-postgres opens a connection for each of the some 150 questions that a run asks, which costs it half a
        # second. The ping finds connections that the server has closed since.
        engine = create_engine(
            postgres_url, isolation_level="AUTOCOMMIT", pool_size=2, max_overflow=-1, pool_pre_ping=True
        )
        for part in (self._run_storage, self._event_log_storage, self._schedule_storage):
            part._engine = engine

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> TaxiStorage:
        return cls(storage_url(), inst_data)


class TaxiComputeLogs(LocalComputeLogManager):
    """What the steps print: in the bucket `TAXI_LOGS_BUCKET` where that is set, else below `TAXI_HOME`."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Any:
        folder, bucket = str(taxi_home() / "dagster" / "logs"), setting("TAXI_LOGS_BUCKET")
        return _logs_in_bucket(bucket, folder, inst_data) if bucket else cls(base_dir=folder, inst_data=inst_data)


class TaxiArtifacts(LocalArtifactStorage):
    """What Dagster keeps in files, below `TAXI_HOME`."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> TaxiArtifacts:
        return cls(base_dir=str(taxi_home() / "dagster"), inst_data=inst_data)


class TaxiRunLauncher(DefaultRunLauncher):
    """Dagster's own launcher, which also knows a run whose process was killed or whose machine was restarted.

    Without that such a run would count as running, and take a place in the queue, for ever. And while the code location
    is replaced, runs stay in the queue instead of failing.
    """

    def launch_run(self, context: LaunchRunContext) -> None:
        try:
            super().launch_run(context)
        except DagsterLaunchFailedError as error:
            if STOPPING not in str(error):
                raise
            # It brings the runs at work to their end and takes no others; the next one does, as from one out of reach.
            raise DagsterUserCodeUnreachableError(str(error)) from error

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> TaxiRunLauncher:
        return cls(inst_data=inst_data)

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        if not isinstance(self._instance.event_log_storage, TaxiEventLog) or is_alive(self._instance, run):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, LOST)


def _logs_in_bucket(bucket: str, folder: str, inst_data: Any) -> ComputeLogManager[Any]:
    from dagster._check import CheckError
    from dagster_gcp.gcs import GCSComputeLogManager

    from taxi_assets.resources.gcp import told

    try:
        with told():
            return GCSComputeLogManager(
                bucket=bucket, local_dir=folder, prefix="dagster-logs", upload_interval=60, inst_data=inst_data
            )
    except CheckError:
        raise TaxiError(
            f"The bucket {bucket}, which TAXI_LOGS_BUCKET names, is not there: make it, or leave that unset."
        ) from None


def storage_url() -> str:
    """Where the history is, as SQLAlchemy takes it; starts the embedded server where that is meant."""
    # The driver is named because SQLAlchemy 2.1 takes another one by default, with which Dagster loses events.
    url = setting("DAGSTER_POSTGRES_URL")
    if url:
        return f"postgresql+psycopg2://{url.partition('://')[2]}" if "://" in url else url
    host = embedded_postgres(taxi_home(), TRIPS_DATABASE, DAGSTER_DATABASE)
    return f"postgresql+psycopg2://postgres@/{DAGSTER_DATABASE}?host={quote(host, safe='')}"
