"""The calendar of the schedules: every tick of two years, with a missed one, across the changes of the clock."""

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from taxi_assets.automation import TARGETS, month_before
from taxi_assets.definitions import defs
from taxi_assets.errors import NotPublishedError, TransientError
from taxi_assets.resources.source import TripSource

# Of Dagster about its own tags for the dimensions of a partition.
pytestmark = pytest.mark.filterwarnings("ignore:Non-compliant tag keys like .'dagster/partition/color'")

NEW_YORK = ZoneInfo("America/New_York")
HOURS = {"green": 9, "yellow": 10}


class Published(TripSource):
    """A source that has every file, or answers with an error."""

    problem: str = ""

    def published(self, trip_file):
        if self.problem:
            raise {"down": TransientError, "missing": NotPublishedError}[self.problem](f"it is {self.problem}.")
        return "v1"


def ticks(color, first, last):
    """The moments at which the daemon evaluates a schedule, as it computes them itself."""
    schedule = defs.resolve_schedule_def(f"{color}_schedule")
    cron, zone = schedule.cron_schedule, schedule.execution_timezone
    for moment in schedule_execution_time_iterator(first.timestamp(), cron, zone, ascending=True):
        if moment >= last:
            return
        yield moment


def evaluate(color, moment, problem=""):
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance,
            scheduled_execution_time=moment,
            resources={"source": Published(problem=problem)},
            repository_def=defs.get_repository_def(),
        )
        return defs.resolve_schedule_def(f"{color}_schedule").evaluate_tick(context)


@pytest.mark.parametrize("color", HOURS)
def test_two_years_of_ticks(color):
    start = datetime(2023, 12, 15, tzinfo=NEW_YORK)
    moments = list(ticks(color, start, datetime(2025, 12, 15, tzinfo=NEW_YORK)))
    assert len(moments) == 24
    local = [moment.astimezone(NEW_YORK) for moment in moments]
    assert {(moment.day, moment.hour, moment.minute) for moment in local} == {(1, HOURS[color], 0)}
    # The clock changes twice a year, so the same hour in New York is two hours in UTC.
    assert {moment.astimezone(timezone.utc).hour for moment in moments} == {HOURS[color] + 4, HOURS[color] + 5}

    missed = moments.pop(7)
    requested = [evaluate(color, moment).run_requests[0].partition_key for moment in moments]
    months = [f"{color}|{year}-{month:02}" for year in (2023, 2024, 2025) for month in range(1, 13)][11:35]
    assert months.pop(7) == f"{color}|2024-07"
    assert requested == months
    # Caught up with later, it still asks for its own month.
    assert evaluate(color, missed).run_requests[0].partition_key == f"{color}|2024-07"


@pytest.mark.parametrize(
    ("moment", "month"),
    [
        ("2024-03-01T04:59:59+00:00", "2024-01"),  # still February 29th in New York
        ("2024-03-01T05:00:00+00:00", "2024-02"),
        ("2024-01-01T10:00:00-05:00", "2023-12"),
        ("2024-03-31T23:59:59-04:00", "2024-02"),
    ],
)
def test_the_month_that_ended_last(moment, month):
    assert month_before(datetime.fromisoformat(moment)) == month


def test_the_month_that_has_just_ended_is_a_partition():
    """Schedules and partitions use one calendar, so that a tick never asks for a month that is not there yet."""
    now = datetime.now(NEW_YORK)
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    asset = defs.resolve_asset_graph().get(dg.AssetKey("postgres_trips"))
    keys = asset.partitions_def.get_partition_keys(current_time=first + timedelta(seconds=1))
    assert f"green|{month_before(first + timedelta(hours=9))}" in keys
    assert f"green|{first:%Y-%m}" not in keys


def test_a_file_that_is_not_published_yet():
    answer = evaluate("green", datetime(2024, 2, 1, 9, tzinfo=NEW_YORK), "missing")
    assert answer.run_requests == []
    assert answer.skip_message == "it is missing."


def test_a_source_that_is_down_at_the_tick():
    """The run is asked for all the same: it tries again, and there is no other tick for a month."""
    answer = evaluate("green", datetime(2024, 2, 1, 9, tzinfo=NEW_YORK), "down")
    assert [request.partition_key for request in answer.run_requests] == ["green|2024-01"]


AUTOMATION = {
    "postgres_trips_job": ["green_schedule", "yellow_schedule", "new_trip_files_sensor"],
    "bigquery_trips_job": ["green_bigquery_schedule", "yellow_bigquery_schedule", "new_trip_files_bigquery_sensor"],
}


def test_each_warehouse_has_its_own_schedules_and_sensor_and_all_are_off():
    found = {}
    for schedule in defs.get_repository_def().schedule_defs:
        assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
        found.setdefault(schedule.job_name, []).append(schedule.name)
    for sensor in defs.get_repository_def().sensor_defs:
        if sensor.name == "failed_run_alert":
            continue  # it loads nothing
        assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
        found.setdefault(sensor.job_name, []).append(sensor.name)
    assert found == AUTOMATION


def test_schedules_of_both_warehouses_tick_together():
    for color, hour in HOURS.items():
        for name in (f"{color}_schedule", f"{color}_bigquery_schedule"):
            assert defs.resolve_schedule_def(name).cron_schedule == f"0 {hour} 1 * *"


def test_targets_are_jobs():
    graph = defs.resolve_asset_graph()
    for target in TARGETS.values():
        job = defs.resolve_job_def(target.job.name)
        assert dg.AssetKey(target.asset) in job.asset_layer.executable_asset_keys
        assert graph.get(dg.AssetKey(target.asset)).is_partitioned
