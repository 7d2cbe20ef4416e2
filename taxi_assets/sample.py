"""A generator of trip files in the TLC's format, for trying things out where the archive cannot be reached.

It shows what real files show: CRLF line ends, decimals without a leading zero, a block of rows with nulls at
the end, pickups outside the month, refunds as pairs, rows that share an id. The trips are invented.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from taxi_assets.trips import TripFile, next_month

if TYPE_CHECKING:
    import numpy as np

GENERATOR_VERSION = "1"  # of the bytes: another number, other files
DEFAULT_ROWS = {"yellow": 60_000, "green": 12_000}
BLOCK_ROWS = 50_000
# Shares of the rows, near those of 2020 and 2021: what a reader should be able to find in a small file.
NULL_SHARE = 0.06
STRAYS = 6  # pickups outside the month; real months have a handful, whatever their size
SHARED_IDS = 4  # rows that repeat the id of the row before
REFUND_EVERY = 400

# How busy each hour of a day is, weekdays and weekends, midnight first: the rhythm that a chart should show.
WEEKDAY = [20, 12, 8, 6, 7, 14, 34, 58, 68, 64, 58, 60, 64, 64, 68, 66, 62, 74, 86, 84, 74, 66, 56, 38]
WEEKEND = [52, 46, 36, 26, 14, 8, 8, 12, 20, 30, 38, 44, 48, 48, 48, 46, 46, 48, 52, 52, 46, 42, 38, 30]


def sample_rows(trip_file: TripFile) -> int:
    """How many rows a sample file has where nobody asked for a number."""
    return DEFAULT_ROWS.get(trip_file.color.name, 10_000)


def write_sample(trip_file: TripFile, path: Path, rows: int | None = None) -> int:
    """Write the sample file of a colour and month as gzip.

    The bytes depend on colour, month and number of rows alone, so that a second call changes nothing.
    Memory does not grow with `rows`.

    Returns:
        The number of rows, without the header.
    """
    rows = sample_rows(trip_file) if rows is None else rows
    # Level 1: these files are read once or twice, on the machine that wrote them. No time stamp: same bytes again.
    with path.open("wb") as raw, gzip.GzipFile(trip_file.csv_name, "wb", compresslevel=1, fileobj=raw, mtime=0) as out:
        for block in sample_csv(trip_file, rows):
            out.write(block)
    return rows


def sample_csv(trip_file: TripFile, rows: int) -> Iterator[bytes]:
    """Yield the CSV of a sample file: the header, then blocks of whole lines."""
    import numpy as np

    yield (",".join(trip_file.color.header) + "\r\n").encode()
    rng = np.random.default_rng([zlib.crc32(trip_file.color.name.encode()), trip_file.first_day.toordinal(), rows])
    first_null = rows - int(rows * NULL_SHARE)
    for start in range(0, rows, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, rows)
        index = np.arange(start, stop)
        columns = _columns(trip_file, index, rows, index >= first_null, rng)
        lines = zip(*(columns[name] for name in trip_file.color.header), strict=True)
        block = "\r\n".join(map(",".join, lines)) + "\r\n"
        # numpy writes times as 2020-04-01T00:00:00; nothing else in a row has a T.
        yield block.replace("T", " ").encode()


def _columns(
    trip_file: TripFile, index: np.ndarray, rows: int, null: np.ndarray, rng: np.random.Generator
) -> dict[str, list[str]]:
    """The fields of the rows `index`, as text, by column name."""
    import numpy as np

    n = len(index)
    pickup = _pickups(trip_file, index, rows, rng)
    minutes = rng.gamma(2.2, 6.0, n) + 1
    miles = np.minimum(minutes * rng.uniform(0.08, 0.35, n) * 100, 6000).astype(int)  # hundredths
    fare = 250 + (miles * 2.5 + minutes * 35).astype(int) // 50 * 50  # cents; the meter counts in steps of 50
    card = rng.random(n) < 0.7
    tip = np.where(card, (fare * rng.choice([0, 0.15, 0.2, 0.25], n)).astype(int), 0)
    tolls = np.where(rng.random(n) < 0.03, 612, 0)
    extra = rng.choice([0, 50, 100, 250], n)
    congestion = rng.choice([0, 275 if trip_file.color.name == "green" else 250], n, p=[0.3, 0.7])
    zones = rng.integers(1, 264, (2, n))
    vendor = rng.choice(["1", "2"], n, p=[0.3, 0.7])
    passengers = rng.choice(list("0123456"), n, p=[0.02, 0.72, 0.14, 0.05, 0.02, 0.03, 0.02])
    payment = np.where(card, "1", "2")
    dropoff = pickup + (minutes * 60).astype("timedelta64[s]")
    mta_tax, improvement = np.full(n, 50), np.full(n, 30)

    shared = (index > 0) & (index < rows - int(rows * NULL_SHARE)) & (index % max(rows // (SHARED_IDS + 1), 2) == 1)
    refund = (index % REFUND_EVERY == REFUND_EVERY - 1) & ~null
    for again in (shared, refund):  # the row repeats the trip of the row before
        again[0] = False  # a block's first row has no row before
        at = np.flatnonzero(again)
        for values in (
            pickup,
            dropoff,
            miles,
            fare,
            tip,
            tolls,
            extra,
            congestion,
            zones[0],
            zones[1],
            vendor,
            passengers,
        ):
            values[at] = values[at - 1]
    tip[shared] = tip[shared] + 100  # the same trip told twice, with another tip
    sign = np.where(refund, -1, 1)
    fare, extra, mta_tax, improvement, congestion = (
        amount * sign for amount in (fare, extra, mta_tax, improvement, congestion)
    )
    payment = np.where(refund, "4", payment)

    total = fare + extra + mta_tax + tip + tolls + improvement + congestion
    blank = np.where(null, "", "x") == ""
    text = {
        "VendorID": vendor,
        "RatecodeID": rng.choice(["1", "2", "5"], n, p=[0.95, 0.03, 0.02]),
        "store_and_fwd_flag": rng.choice(["N", "Y"], n, p=[0.99, 0.01]),
        "passenger_count": passengers,
        "payment_type": payment,
        "trip_type": rng.choice(["1", "2"], n, p=[0.97, 0.03]),
    }
    columns = {name: np.where(blank, "", values).tolist() for name, values in text.items()}
    columns["PULocationID"], columns["DOLocationID"] = (zone.astype(str).tolist() for zone in zones)
    amounts = {
        "trip_distance": miles,
        "fare_amount": fare,
        "extra": extra,
        "mta_tax": mta_tax,
        "tip_amount": tip,
        "tolls_amount": tolls,
        "improvement_surcharge": improvement,
        "total_amount": total,
        "congestion_surcharge": congestion,
    }
    for name, cents in amounts.items():
        columns[name] = _decimals(cents)
    if trip_file.color.name == "green":  # where a green row has no vendor, it has no congestion surcharge either
        columns["congestion_surcharge"] = np.where(blank, "", columns["congestion_surcharge"]).tolist()
    columns["ehail_fee"] = [""] * n
    columns[trip_file.color.pickup] = np.datetime_as_string(pickup, unit="s").tolist()
    columns[trip_file.color.pickup.replace("pickup", "dropoff")] = np.datetime_as_string(dropoff, unit="s").tolist()
    return columns


def _pickups(trip_file: TripFile, index: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Pickup times in file order, roughly rising through the month with the rhythm of the week; a few stray."""
    import numpy as np

    start = np.datetime64(trip_file.first_day, "s")
    end = np.datetime64(next_month(trip_file.first_day), "s")
    hours = int((end - start) / np.timedelta64(1, "h"))
    first_weekday = trip_file.first_day.weekday()
    busy = np.concatenate(
        [
            np.array(WEEKEND if (first_weekday + day) % 7 >= 5 else WEEKDAY, float) * (1 + 0.04 * np.sin(day * 2.4))
            for day in range(hours // 24)
        ]
    )
    done = np.concatenate([[0.0], np.cumsum(busy)]) / busy.sum()
    place = np.clip((index + rng.normal(0, 300, len(index))) / rows, 0, 0.999999)
    pickup = start + (np.interp(place, done, np.arange(hours + 1)) * 3600).astype("timedelta64[s]")
    stray = index % max(rows // STRAYS, 1) == 2
    years = np.datetime64("2008-12-31T23:05:00", "s")
    elsewhere = np.array(
        [
            start - np.timedelta64(40, "m"),
            end + np.timedelta64(25, "m"),
            years,
            end + np.timedelta64(3, "h"),
            start - np.timedelta64(9, "D"),
            np.datetime64("2009-01-01T00:03:41", "s"),
        ]
    )
    pickup[stray] = elsewhere[(index[stray] // max(rows // STRAYS, 1)) % len(elsewhere)]
    return pickup


def _decimals(hundredths: np.ndarray) -> list[str]:
    """Hundredths as the TLC writes decimals: 700 as `7`, 150 as `1.5`, 79 as `.79`, -500 as `-5`."""
    import numpy as np

    values, place = np.unique(hundredths, return_inverse=True)
    texts = []
    for value in values.tolist():
        whole, cents = divmod(abs(value), 100)
        number = f"{whole or ''}.{cents:02d}".rstrip("0") if cents else str(whole)
        texts.append(f"-{number}" if value < 0 else number)
    return list(np.array(texts, dtype=object)[place])
