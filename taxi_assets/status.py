"""The state of each partition: loaded, stale, running, failed or missing, from the table and from Dagster's history.

The table is what counts: what the history calls loaded and the table does not have is missing. BigQuery is asked only
what costs nothing: there the history says which months were merged into the table that is there now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any, Literal

import dagster as dg
from dagster import DagsterRunStatus

from taxi_assets.automation import TARGETS, Target
from taxi_assets.history import end_dead_runs, latest, why
from taxi_assets.partitions import color_and_month, months, trip_file_at
from taxi_assets.resources.bigquery import BigQuery
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.source import TripSource
from taxi_assets.trips import COLORS, TripFile

RUNS_LOOKED_AT = 20  # the failed ones of a partition, for the last that was on its way into the same warehouse

State = Literal["loaded", "stale", "running", "failed", "missing"]


@dataclass(frozen=True)
class PartitionStatus:
    """What is known of one partition.

    Attributes:
        state: `loaded`; `stale`, the raw file is newer than what was merged; `running`, also if it waits in the queue;
            `failed`, the last run did; `missing`.
        fetched: the raw file is in the raw folder.
        staged: its staging table is there.
        rows: of the file in the table at its last merge; None where nobody noted it.
        cause: why the last run failed.
    """

    trip_file: TripFile
    state: State
    fetched: bool
    staged: bool
    rows: int | None = None
    cause: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The same as a record for scripts."""
        shown = {"color": self.trip_file.color.name, "month": self.trip_file.month, **asdict(self)}
        del shown["trip_file"]
        return shown


def statuses(
    instance: dg.DagsterInstance,
    source: TripSource,
    warehouse: Postgres | BigQuery,
    trip_files: Sequence[TripFile] | None = None,
) -> list[PartitionStatus]:
    """The state of partitions, of all where none are given, in the order of the months.

    Runs whose process was killed are reported as failed on the way.
    """
    end_dead_runs(instance)
    wanted = trip_files or [
        TripFile(color, month) for month in months.get_partition_keys() for color in COLORS.values()
    ]
    keys = [trip_file.partition_key for trip_file in wanted]
    target = TARGETS["postgres" if isinstance(warehouse, Postgres) else "bigquery"]
    history = instance.get_status_by_partition(dg.AssetKey(target.asset), keys, color_and_month) or {}
    raw, trips = latest(instance, "raw_trips"), latest(instance, target.asset)
    merged = _months_in_tables(warehouse, trips)
    staged = warehouse.staged() if isinstance(warehouse, Postgres) else warehouse.tables()

    def status(trip_file: TripFile) -> PartitionStatus:
        key = trip_file.partition_key
        last = trips.get(key, {})
        rows = last.get("dagster/partition_row_count")
        in_table = merged[trip_file.color.name]
        loaded = history.get(key) == dg.AssetPartitionStatus.MATERIALIZED
        if in_table is not None:  # else it is a table of somebody else's, and there is the history alone
            loaded = trip_file.month in in_table or (loaded and rows == 0)
        stale = loaded and "sha256" in last and key in raw and raw[key]["sha256"] != last["sha256"]
        state: State = "stale" if stale else "loaded" if loaded else "missing"
        if history.get(key) == dg.AssetPartitionStatus.IN_PROGRESS:
            state = "running"
        elif history.get(key) == dg.AssetPartitionStatus.FAILED:
            state = "failed"
        return PartitionStatus(
            trip_file, state, fetched=source.raw_path(trip_file).exists(), staged=trip_file.staging_table in staged,
            rows=rows if loaded else None, cause=_cause(instance, target, key) if state == "failed" else None,
        )  # fmt: skip

    return [status(trip_file) for trip_file in wanted]


def _months_in_tables(
    warehouse: Postgres | BigQuery, trips: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, AbstractSet[str] | None]:
    """For each color the months in its final table, None where only the history knows."""
    if isinstance(warehouse, Postgres):
        return {color.name: warehouse.merged(color) for color in COLORS.values()}
    months_in_tables: dict[str, set[str]] = {}
    for color in COLORS.values():
        table = warehouse.final_table(color)
        merged = [key for key, metadata in trips.items() if table and table.items() <= metadata.items()]
        files = [trip_file_at(key) for key in merged]
        months_in_tables[color.name] = {trip_file.month for trip_file in files if trip_file.color == color}
    return months_in_tables


def _cause(instance: dg.DagsterInstance, target: Target, partition_key: str) -> str | None:
    ended = dg.RunsFilter(
        statuses=[DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED], tags={"dagster/partition": partition_key}
    )
    for run in instance.get_runs(ended, limit=RUNS_LOOKED_AT):
        if run.job_name == target.job.name or dg.AssetKey(target.asset) in (run.asset_selection or ()):
            return why(instance, run.run_id)
    return None


def spans(found: Iterable[str]) -> str:
    """Months as people write them: `2019-01 to 2019-12, 2020-02`."""
    index = {month: number for number, month in enumerate(months.get_partition_keys())}
    runs: list[list[str]] = []
    for month in sorted(found):
        if runs and index[month] == index[runs[-1][-1]] + 1:
            runs[-1].append(month)
        else:
            runs.append([month])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
