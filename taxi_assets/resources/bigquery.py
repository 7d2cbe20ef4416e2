"""BigQuery: the external, staging and final tables, and the merge from one into the other.

Everything that talks to it goes through `BigQuery`; what goes wrong there comes back as one sentence.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, cast

from pydantic import PrivateAttr

from taxi_assets.errors import BadTripFileError, TaxiError
from taxi_assets.resources.gcp import GoogleCloud, account, told
from taxi_assets.resources.postgres import Note
from taxi_assets.resources.settings import setting
from taxi_assets.sql import bigquery as statement
from taxi_assets.trips import Color, Column, TripFile, header_difference, next_month

if TYPE_CHECKING:
    from google.cloud import bigquery

PATIENCE_SECONDS = 60.0
LABEL = "taxi"  # of everything that this project makes in Google Cloud; its value is the color
MADE_BY = "Made by taxi-assets from"  # in the description of a month's tables: external ones have no labels in SQL


class NotStagedError(TaxiError):
    """A table of the steps before is not there."""


@dataclass(frozen=True)
class Cost:
    """What a statement cost: bytes read and billed, the seconds of one slot, and the job that tells more."""

    job: str
    bytes_processed: int
    bytes_billed: int
    slot_seconds: float
    seconds: float


@dataclass(frozen=True)
class Staged:
    """A month's staging table: its rows."""

    rows: int
    cost: Cost


@dataclass(frozen=True)
class Merged:
    """A staging table merged.

    Attributes:
        table: into which one, as `BigQuery.final_table` tells it.
        rows: of the staging table.
        inserted: those that were not there.
        trips_per_day: by the day of pickup, in the order of the days, those outside the month too.
    """

    table: Mapping[str, str]
    rows: int
    inserted: int
    trips_per_day: Sequence[tuple[date, int]]
    cost: Cost

    @property
    def there_already(self) -> int:
        """The rows whose id was in the table before."""
        return self.rows - self.inserted


@dataclass(frozen=True)
class Counted:
    """A file's rows in the final table, as they are counted.

    Attributes:
        outside_month: those with a pickup in another month.
        sharing_an_id: those whose id another row of the file has too.
        id_sum: the sum of the first eight hex digits of the ids, to compare with another warehouse.
    """

    rows: int
    outside_month: int
    sharing_an_id: int
    id_sum: int


class BigQuery(GoogleCloud):
    """The dataset."""

    _client: Any = PrivateAttr(default=None)

    @contextmanager
    def client(self) -> Iterator[bigquery.Client]:
        """A client of the project in the dataset's location; Google's errors come out of the block as one sentence.

        Raises:
            TaxiError: what Google refused, or there is no account.
            TransientError: Google did not answer.
        """
        from google.cloud import bigquery

        with told():
            if self._client is None:
                emulator = setting("BIGQUERY_EMULATOR_HOST")
                self._client = _impatient(bigquery.Client)(
                    self.settings.project, account("BIGQUERY_EMULATOR_HOST"), location=self.settings.location,
                    client_options={"api_endpoint": emulator} if emulator else None,
                )  # fmt: skip
            yield self._client

    def table_name(self, table: str) -> str:
        """A table with its project and dataset, as BigQuery writes it."""
        return f"{self.settings.project}.{self.settings.dataset}.{table}"

    def make_external_table(self, trip_file: TripFile, uri: str, run_id: str) -> Cost:
        """Make the table anew that shows the file in the bucket as rows; nothing is read yet."""
        self._refuse_foreign(trip_file.external_table)
        names = self._names(trip_file)
        gzip = "GZIP" if uri.endswith(".gz") else "NONE"
        sql = statement("create_external_table", **names, uri=_literal(uri), compression=_literal(gzip))
        return _cost(self._run(sql, "external", trip_file, run_id))

    def stage(self, trip_file: TripFile, run_id: str) -> Staged:
        """Make the staging table anew from the external one, with the row's id and the file's name, all or nothing.

        Raises:
            NotStagedError: there is no external table.
            BadTripFileError: BigQuery cannot read a row, in its words.
        """
        self._require(trip_file.external_table, "bigquery_external_trips", trip_file)
        self._refuse_foreign(trip_file.staging_table)
        sql = statement("create_staging_table", **self._names(trip_file))
        with self._alone(trip_file.staging_table) as note:
            job = self._write(note, sql, "stage", trip_file, run_id)
        return Staged(self._require(trip_file.staging_table, "bigquery_staging_trips", trip_file).num_rows, _cost(job))

    def merge(self, trip_file: TripFile, run_id: str) -> Merged:
        """Insert the staged rows whose id is not in the final table yet, in one statement.

        Rows of the file that share an id are all inserted the first time. Only the days that the file touches are
        read. Merges of one color go one after the other: BigQuery would let two insert the same rows.

        Raises:
            NotStagedError: there is no staging table.
            TaxiError: a table of that name has other columns.
        """
        names = self._names(trip_file)
        with self._alone(
            trip_file.staging_table
        ):  # else it may be made anew between the look at its days and the merge
            staging = self._require(trip_file.staging_table, "bigquery_staging_trips", trip_file)
            self._make_final_table(trip_file, run_id)
            days = self._run(statement("count_trips_per_day", **names), "days", trip_file, run_id)
            trips_per_day = [(row.day, row.trips) for row in days.result()]
            outside = [day for day, _ in trips_per_day if not trip_file.has(day)]
            sql = statement("merge_into_final_table", **names, merged_days=_days(trip_file, outside, "merged."))
            with self._alone(trip_file.color.table) as note:
                job = self._write(note, sql, "merge", trip_file, run_id)
        return Merged(
            table=self.final_table(trip_file.color) or {}, rows=staging.num_rows,
            inserted=int(job.num_dml_affected_rows or 0), trips_per_day=trips_per_day, cost=_cost(job),
        )  # fmt: skip

    def final_table(self, color: Color) -> Mapping[str, str] | None:
        """The final table that is there now: its name and when it was made; None where there is none.

        What a materialization says it was merged into is compared with this, which costs nothing.
        """
        found = self._find(color.table)
        if found is None:
            return None
        return {"dagster/table_name": self.table_name(color.table), "table_created": str(found.created)}

    def staged_rows(self, trip_file: TripFile) -> int:
        """The rows in the staging table.

        Raises:
            NotStagedError: there is none.
        """
        return int(self._require(trip_file.staging_table, "bigquery_staging_trips", trip_file).num_rows)

    def count(self, trip_file: TripFile, days_outside: Sequence[date], run_id: str) -> Counted:
        """Count the file's rows in the final table.

        Args:
            trip_file: whose rows.
            days_outside: the days of pickup outside its month, which are read too.
            run_id: of the run, for the job's labels.
        """
        sql = statement("count_rows_of_file", **self._names(trip_file), days=_days(trip_file, days_outside))
        [row] = self._run(sql, "count", trip_file, run_id).result()
        return Counted(row.row_count, row.outside_month, row.sharing_an_id, row.id_sum)

    def preview(self, trip_file: TripFile) -> list[dict[str, Any]]:
        """Ten rows of the staging table, which costs nothing."""
        with self.client() as client:
            rows = client.list_rows(self.table_name(trip_file.staging_table), max_results=10)
            return [dict(row.items()) for row in rows]

    def tables(self) -> set[str]:
        """The names of the tables in the dataset."""
        with self.client() as client:
            return {table.table_id for table in client.list_tables(self.settings.dataset)}

    def is_ours(self, table: str) -> bool:
        """Whether this project made a table."""
        found = self._find(table)
        return found is not None and _made_by_us(found)

    def _refuse_foreign(self, table: str) -> None:
        """Keep off a table of a month's name that somebody else made: it would be replaced.

        Raises:
            TaxiError: there is one.
        """
        found = self._find(table)
        if found is not None and not _made_by_us(found):
            raise TaxiError(
                f"{self.table_name(table)} is there already, made by somebody else: rename it, or set GCP_DATASET to "
                f"another dataset."
            )

    def _require(self, table: str, asset: str, trip_file: TripFile) -> bigquery.Table:
        found = self._find(table)
        if found is None:
            raise NotStagedError(
                f"{self.table_name(table)} is not there, or has expired: materialize {asset} for "
                f"{trip_file.partition_key} first, or together with what follows it."
            )
        return found

    def _find(self, table: str) -> bigquery.Table | None:
        from google.api_core.exceptions import NotFound

        with self.client() as client:
            try:
                return client.get_table(self.table_name(table))
            except NotFound as error:
                if "Table" in str(error):
                    return None
                raise

    def _make_final_table(self, trip_file: TripFile, run_id: str) -> None:
        color = trip_file.color
        found = self._find(color.table)
        if found is None:
            self._run(self._create_final_table(color), "create", trip_file, run_id)
            return
        self._refuse_other_columns(color, found)

    def _refuse_other_columns(self, color: Color, found: bigquery.Table) -> None:
        expected = [f"{column.name} {column.bigquery_type}" for column in color.table_columns]
        types = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}  # the API's names of GoogleSQL's types
        columns = [f"{field.name} {types.get(field.field_type, field.field_type)}" for field in found.schema]
        if difference := header_difference(sorted(expected), sorted(columns)):
            raise TaxiError(
                f"{self.table_name(color.table)} is there already with other columns ({difference}): rename it, or "
                f"set GCP_DATASET to another dataset."
            )

    def try_to_make_final_table(self, color: Color) -> None:
        """Have BigQuery look at the statement that makes a final table, without running it.

        Raises:
            TaxiError: the account may not run it, or a table of that name has other columns.
        """
        from google.cloud import bigquery

        found = self._find(color.table)
        if found is not None:
            self._refuse_other_columns(color, found)
        with self.client() as client:
            client.query(self._create_final_table(color), bigquery.QueryJobConfig(dry_run=True), job_retry=None)

    def _create_final_table(self, color: Color) -> str:
        return statement(
            "create_final_table",
            table=_identifier(self.table_name(color.table)),
            columns=_definitions(color.table_columns, described=True),
            pickup=_identifier(color.pickup),
            description=_literal(f"The trips of {color.name} taxis, a row for each row of the TLC's files."),
            labels=_labels({LABEL: color.name}),
        )

    @contextmanager
    def _alone(self, table: str) -> Iterator[Note]:
        """Keep others off a table, after everything that was sent to write to it before.

        A job's id is noted in the trips database before the job is sent. Whoever comes next, after a crash, sees to it
        that a job of that id has ended, or can never begin.
        """
        with self.settings_store.postgres.alone(f"bigquery {self.table_name(table)}") as note:
            if pending := note.get():
                self._outlast(pending)
            yield note

    def _write(self, note: Note, sql: str, verb: str, trip_file: TripFile, run_id: str) -> bigquery.QueryJob:
        """Run a statement that writes to the table that the note is about."""
        job_id = _job_id(verb, trip_file, run_id)
        note.set(job_id)
        job = self._run(sql, verb, trip_file, run_id, job_id)
        note.set("")
        return job

    def _outlast(self, job_id: str) -> None:
        """Wait for the end of a job that may have been sent, or take its id, so that it never begins."""
        from google.api_core.exceptions import Conflict

        with self.client() as client:
            try:
                client.query("SELECT 1", job_id=job_id, job_retry=None)
            except Conflict:
                cast("bigquery.QueryJob", client.get_job(job_id)).exception()  # waits for its end

    def _run(
        self, sql: str, verb: str, trip_file: TripFile, run_id: str, job_id: str | None = None
    ) -> bigquery.QueryJob:
        """Run one statement to its end."""
        from google.api_core.exceptions import BadRequest, Conflict
        from google.cloud import bigquery

        # The id is ours, so that a request that is sent again, its answer lost, cannot run the statement twice.
        job_id = job_id or _job_id(verb, trip_file, run_id)
        config = bigquery.QueryJobConfig(
            labels={LABEL: trip_file.color.name, "file": trip_file.stem, "run": run_id},
            maximum_bytes_billed=self.settings.maximum_bytes_billed,
        )
        with self.client() as client:
            try:
                job = client.query(sql, config, job_id=job_id, job_retry=None)
            except Conflict:
                job = cast("bigquery.QueryJob", client.get_job(job_id))
            try:
                job.result(job_retry=None)
            except BadRequest as error:
                if "while reading" not in str(error.errors):
                    raise
                job.reload()  # it knows the row
                raise BadTripFileError(_unreadable(trip_file, job)) from None
            return job

    def _names(self, trip_file: TripFile) -> Mapping[str, str]:
        """Every name and value that the statements on one file are filled with."""
        color = trip_file.color
        columns = {column.name: column for column in color.columns}
        return {
            "table": _identifier(self.table_name(color.table)),
            "staging": _identifier(self.table_name(trip_file.staging_table)),
            "external": _identifier(self.table_name(trip_file.external_table)),
            "columns": _definitions(color.columns),
            "names": ", ".join(_identifier(column.name) for column in color.columns),
            "all_names": ", ".join(_identifier(column.name) for column in color.table_columns),
            "row_id": ", ".join(_as_text(columns[name]) for name in color.row_id),
            "pickup": _identifier(color.pickup),
            "filename": _literal(trip_file.csv_name),
            "first_day": _midnight(trip_file.first_day),
            "next_month": _midnight(next_month(trip_file.first_day)),
            "expiration_seconds": str(int(self.settings.staging_expiration.total_seconds())),
            "description": _literal(f"{MADE_BY} {trip_file.csv_name}, on its way into {color.table}."),
            "labels": _labels({LABEL: color.name, "file": trip_file.stem}),
        }  # fmt: skip


def _impatient(client: type[bigquery.Client]) -> type[bigquery.Client]:
    """A client that gives up after a minute what Google's own tries for ten: the step tries again, and says so."""

    class Impatient(client):  # type: ignore[misc,valid-type]
        def _call_api(self, retry: Any, *arguments: Any, **options: Any) -> Any:
            return super()._call_api(retry and retry.with_timeout(PATIENCE_SECONDS), *arguments, **options)

    return Impatient


def _made_by_us(table: bigquery.Table) -> bool:
    return LABEL in table.labels or (table.description or "").startswith(MADE_BY)


def _cost(job: bigquery.QueryJob) -> Cost:
    took = job.ended - job.started if job.ended and job.started else timedelta()
    return Cost(
        job=f"{job.project}:{job.location}.{job.job_id}",
        bytes_processed=job.total_bytes_processed or 0,
        bytes_billed=job.total_bytes_billed or 0,
        slot_seconds=(job.slot_millis or 0) / 1000,
        seconds=took.total_seconds(),
    )


def _job_id(verb: str, trip_file: TripFile, run_id: str) -> str:
    return f"taxi_{verb}_{trip_file.staging_table}_{run_id[:8]}_{uuid.uuid4().hex[:12]}"


def _days(trip_file: TripFile, outside: Sequence[date], table: str = "") -> str:
    """The condition that a pickup lies in the file's month or on one of the days outside it, as constants."""
    pickup = f"{table}{_identifier(trip_file.color.pickup)}"
    spans = [(trip_file.first_day, next_month(trip_file.first_day))]
    spans += [(day, day + timedelta(days=1)) for day in outside]
    return " OR ".join(
        f"({pickup} >= {_midnight(first)} AND {pickup} < {_midnight(after)})" for first, after in spans
    )  # fmt: skip


def _midnight(day: date) -> str:
    return f"TIMESTAMP '{day.isoformat()}'"


def _identifier(name: str) -> str:
    return f"`{name}`"


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _labels(labels: Mapping[str, str]) -> str:
    return "[" + ", ".join(f"({_literal(name)}, {_literal(value)})" for name, value in labels.items()) + "]"


def _definitions(columns: Sequence[Column], described: bool = False) -> str:
    def definition(column: Column) -> str:
        options = f" OPTIONS (description = {_literal(column.description)})" if described else ""
        return f"{_identifier(column.name)} {column.bigquery_type}{options}"

    return ", ".join(definition(column) for column in columns)


def _as_text(column: Column) -> str:
    """A value as the id takes it: as Postgres prints it, null as the empty text."""
    name = _identifier(column.name)
    texts = {"STRING": name, "TIMESTAMP": f"FORMAT_TIMESTAMP('%F %T', {name})"}
    return f"COALESCE({texts.get(column.bigquery_type, f'CAST({name} AS STRING)')}, '')"


def _unreadable(trip_file: TripFile, job: bigquery.QueryJob) -> str:
    """What BigQuery says of a row that it cannot read."""
    said = [str(error.get("message", "")) for error in [*(job.errors or []), job.error_result or {}]]
    cause = next((words for words in said if "Could not" in words), said[-1])
    cause = cause.split(" File: ")[0].removeprefix("Error while reading data, error message: ")
    return f"BigQuery cannot read {trip_file.gz_name} ({cause}): mend or fetch it again."
