"""The sample shows what real files show, and is the same file each time."""

import gzip
from itertools import pairwise

import pytest

from taxi_assets.sample import sample_rows, write_sample
from taxi_assets.trip_csv import TripCsv
from taxi_assets.trips import COLORS, TripFile

MONTH = "2020-02"


@pytest.fixture(params=COLORS)
def sample(request, tmp_path):
    trip_file = TripFile.of(request.param, MONTH)
    path = tmp_path / trip_file.gz_name
    write_sample(trip_file, path, rows=120_000)
    text = gzip.decompress(path.read_bytes()).decode()
    header, *lines = text.removesuffix("\r\n").split("\r\n")
    return trip_file, path, [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]


def test_quirks(sample):
    trip_file, _, rows = sample
    pickup = trip_file.color.pickup
    assert len(rows) == 120_000

    months = [row[pickup][:7] for row in rows]
    assert 0 < sum(month != MONTH for month in months) <= 20
    assert "2008-12" in months

    nulls = [not row["VendorID"] for row in rows]
    first = nulls.index(True)
    assert first > 100_000
    assert all(nulls[first:]), "the rows without a vendor are one block at the end"
    assert all(not row[name] for row in rows[first:] for name in ("passenger_count", "RatecodeID", "payment_type"))

    decimals = {row["trip_distance"] for row in rows}
    assert any(text.startswith(".") for text in decimals)
    assert any("." not in text for text in decimals)
    assert not any(text.startswith(("0.", "-0.")) or text.endswith((".0", ".")) for text in decimals)

    refunds = [(before, row) for before, row in pairwise(rows) if row["fare_amount"].startswith("-")]
    assert len(refunds) > 100
    assert all(row["fare_amount"] == f"-{before['fare_amount']}" for before, row in refunds)
    assert all(row[name] == before[name] for before, row in refunds for name in (pickup, "PULocationID"))

    ids = [tuple(row[name] for name in trip_file.color.row_id) for row in rows]
    assert 1 <= len(ids) - len(set(ids)) <= 10
    if "ehail_fee" in rows[0]:
        assert {row["ehail_fee"] for row in rows} == {""}


def test_it_is_a_trip_file(sample):
    trip_file, path, _ = sample
    csv = TripCsv(path, trip_file)
    assert all(csv._is_plain(block) for block in csv.blocks())
    assert csv.rows == 120_000


def test_same_bytes_again(sample, tmp_path):
    trip_file, path, _ = sample
    again = tmp_path / "again"
    write_sample(trip_file, again, rows=120_000)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("rows", [1, 2, 7, 1000])
@pytest.mark.parametrize("color", COLORS)
def test_any_number_of_rows(tmp_path, color, rows):
    trip_file = TripFile.of(color, MONTH)
    assert write_sample(trip_file, tmp_path / "sample", rows) == rows
    assert TripCsv(tmp_path / "sample", trip_file).count() == rows


def test_months_and_colors_differ(tmp_path):
    files = []
    for color in COLORS:
        for month in ("2020-02", "2020-03"):
            path = tmp_path / f"{color}{month}"
            write_sample(TripFile.of(color, month), path, rows=100)
            files.append(gzip.decompress(path.read_bytes()).split(b"\r\n", 1)[1])
    assert len(set(files)) == 4


def test_default_rows():
    assert sample_rows(TripFile.of("yellow", MONTH)) > sample_rows(TripFile.of("green", MONTH))
