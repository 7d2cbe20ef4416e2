"""The partitions of every asset: color and month, with keys such as `green|2020-04`.

The names of the two dimensions are frozen: Dagster writes a key's parts in the order of these names.
"""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg
from dagster._core.errors import DagsterUnknownPartitionError

from taxi_assets.errors import TaxiError
from taxi_assets.resources.settings import setting
from taxi_assets.trips import COLORS, FIRST_MONTH, TripFile


class ColorAndMonth(dg.MultiPartitionsDefinition):
    """Color x month; where a key is none, the error says what keys look like."""

    def validate_partition_key(self, partition_key: str, *args: Any, **kwargs: Any) -> None:
        """Refuse a key that is no partition.

        Raises:
            DagsterUnknownPartitionError: saying what the keys look like.
        """
        try:
            super().validate_partition_key(partition_key, *args, **kwargs)
        except DagsterUnknownPartitionError:
            raise DagsterUnknownPartitionError(unknown_partition(partition_key)) from None


def unknown_partition(partition_key: str) -> str:
    """What to say of a key that is no partition."""
    return (
        f"'{partition_key}' is no partition: keys are color|month, such as green|2020-04, with a color of "
        f"{', '.join(COLORS)} and a month from {FIRST_MONTH} to {months.get_last_partition_key()}."
    )


def _timezone() -> str:
    name = setting("TAXI_TIMEZONE") or "America/New_York"
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise TaxiError(f"TAXI_TIMEZONE {name!r} is no time zone: write it like America/New_York.") from None
    return name


# Read when this is imported, unlike other settings: partitions and schedules are made then.
TIMEZONE = _timezone()

colors = dg.StaticPartitionsDefinition(list(COLORS))
# A month is there to be loaded once it has ended where the schedules run.
months = dg.MonthlyPartitionsDefinition(start_date=FIRST_MONTH, fmt="%Y-%m", timezone=TIMEZONE)
color_and_month = ColorAndMonth({"color": colors, "month": months})


def trip_file_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> TripFile:
    """The trip file of the one partition that a step works on.

    Raises:
        dg.Failure: the run has no partition, as a range whose ends are the wrong way round has none, or several.
    """
    keys = context.partition_keys if context.has_partition_key or context.has_partition_key_range else []
    if len(keys) != 1:
        raise dg.Failure(
            f"A run loads one partition, this one has {len(keys)}: choose one such as green|2020-04, or a range from "
            f"the earlier to the later month as a backfill.",
            allow_retries=False,
        )
    return trip_file_at(keys[0])


def trip_file_at(partition_key: str) -> TripFile:
    """The trip file of a partition, by its key."""
    color, _, month = partition_key.partition("|")
    return TripFile.of(color, month)
