"""Three assets that do nothing, with the partitions and the executor of the real ones: what Dagster alone costs.

The benchmark runs them in turn with the real graph; nothing else belongs here.
"""

import dagster as dg

from taxi_assets.partitions import color_and_month


@dg.asset(partitions_def=color_and_month)
def first() -> None:
    """Stands for `raw_trips`."""


@dg.asset(partitions_def=color_and_month, deps=[first])
def second() -> None:
    """Stands for `postgres_staging_trips`."""


@dg.asset(partitions_def=color_and_month, deps=[second])
def third() -> None:
    """Stands for `postgres_trips`."""


defs = dg.Definitions(assets=[first, second, third], executor=dg.in_process_executor)
