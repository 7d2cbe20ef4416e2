"""Group `raw`: the files as the source has them."""

import time

import dagster as dg

from taxi_assets.assets.steps import now_and_then, step
from taxi_assets.partitions import color_and_month
from taxi_assets.resources.source import TripSource


@dg.asset(partitions_def=color_and_month, group_name="raw", kinds={"csv"})
def raw_trips(context: dg.AssetExecutionContext, source: TripSource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The month's trips as the source publishes them: one gzip CSV, fetched again only when the source changed it."""
    with step(context) as trip_file:
        started = time.monotonic()
        tell = now_and_then(context.log.info)
        raw_file = source.fetch(
            trip_file, progress=lambda done, total: tell(f"{done:,} bytes{f' of {total:,}' if total else ''} fetched")
        )
        context.log.info(
            f"{raw_file.path.name}: {raw_file.rows:,} rows, {raw_file.bytes:,} bytes "
            f"{'fetched from' if raw_file.fetched else 'there already, unchanged at'} {raw_file.source}"
        )
        return dg.MaterializeResult(
            metadata={
                "dagster/partition_row_count": raw_file.rows,
                "bytes": raw_file.bytes,
                "seconds": round(time.monotonic() - started, 3),
                "source": dg.MetadataValue.url(raw_file.source) if "://" in raw_file.source else raw_file.source,
                "sha256": raw_file.sha256,
                "edition": raw_file.edition,
                "path": dg.MetadataValue.path(str(raw_file.path)),
                "fetched": raw_file.fetched,
            },
            data_version=dg.DataVersion(raw_file.sha256[:12]),
        )
