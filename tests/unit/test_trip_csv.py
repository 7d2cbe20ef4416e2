"""Reading trip files: what is a row passes whatever its line ends, what is none is named with line and column."""

import gzip
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxi_assets import trip_csv
from taxi_assets.errors import BadTripFileError
from taxi_assets.trip_csv import TripCsv
from taxi_assets.trips import COLORS, TripFile

GREEN = TripFile.of("green", "2020-04")
HEADER = ",".join(GREEN.color.header)
ROW = "2,2020-04-01 00:44:02,2020-04-01 00:52:23,N,1,42,41,1,1.68,8,.5,.5,0,0,,.3,9.3,1,1,0"
NULLS = ",2009-01-01 00:03:41,2020-04-01 00:12:00,,,42,41,,.79,-5,2.75,0,0,0,,.3,12.78,,,"


def reading(tmp_path, text, trip_file=GREEN):
    path = tmp_path / trip_file.gz_name
    path.write_bytes(gzip.compress(text.encode("latin-1") if isinstance(text, str) else text))
    return TripCsv(path, trip_file)


def read(tmp_path, text):
    return b"".join(reading(tmp_path, text).blocks()).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\r\n{ROW}\r\n{NULLS}\r\n",
        f"{HEADER}\n{ROW}\n{NULLS}\n",
        f"{HEADER}\r\n{ROW}\n{NULLS}\r\n",
        f"{HEADER}\r{ROW}\r{NULLS}\r",
        f"{HEADER}\r\n{ROW}\r\n{NULLS}",
        f"{HEADER}\r\n{ROW}\r\n{NULLS}\r",
        f"{HEADER}\r\n{ROW}\r\n{NULLS}\r\n\r\n\n",
        f"\xef\xbb\xbf{HEADER}\r\n{ROW}\r\n{NULLS}\r\n",
    ],
    ids=["CRLF", "LF", "mixed", "CR", "no last end", "CR last", "blank lines after", "byte order mark"],
)
@pytest.mark.parametrize("block_bytes", [1 << 20, 7, 1])
def test_line_ends(tmp_path, monkeypatch, text, block_bytes):
    monkeypatch.setattr(trip_csv, "BLOCK_BYTES", block_bytes)
    assert read(tmp_path, text) == f"{ROW}\n{NULLS}\n"
    assert reading(tmp_path, text).count() == 2


def test_gzip_of_several_members(tmp_path):
    path = tmp_path / GREEN.gz_name
    path.write_bytes(gzip.compress(f"{HEADER}\n{ROW}".encode()) + gzip.compress(f"\n{NULLS}\n".encode()))
    assert TripCsv(path, GREEN).count() == 2


def with_field(column, value):
    fields = ROW.split(",")
    fields[GREEN.color.header.index(column)] = value
    return ",".join(fields)


@pytest.mark.parametrize(
    ("row", "column", "said"),
    [
        (with_field("lpep_pickup_datetime", "01/01/2021 0:30"), "lpep_pickup_datetime", "is not a time like"),
        (with_field("lpep_pickup_datetime", "2020-04-01T00:30:00"), "lpep_pickup_datetime", "is not a time like"),
        (with_field("lpep_pickup_datetime", "2020-04-01"), "lpep_pickup_datetime", "is not a time like"),
        (with_field("lpep_pickup_datetime", "today"), "lpep_pickup_datetime", "is not a time like"),
        (with_field("lpep_pickup_datetime", ""), "lpep_pickup_datetime", "it is empty"),
        (with_field("fare_amount", "NaN"), "fare_amount", "'NaN' is not a number"),
        (with_field("fare_amount", " 8"), "fare_amount", "' 8' is not a number"),
        (with_field("fare_amount", "$8"), "fare_amount", "'$8' is not a number"),
        (with_field("passenger_count", "0x1"), "passenger_count", "is not a whole number"),
        (with_field("RatecodeID", '"1"'), "RatecodeID", "there is a quote"),
        (with_field("RatecodeID", "\0"), "RatecodeID", "there is a NUL byte"),
        (with_field("RatecodeID", "\xff"), "RatecodeID", "is not UTF-8"),
        (ROW + ",1", "congestion_surcharge", "the row has 21 fields instead of 20"),
        (ROW.rpartition(",")[0], "trip_type", "the row has 19 fields instead of 20"),
        ("2,2020-0", "lpep_pickup_datetime", "the row has 2 fields instead of 20"),
        ("", "VendorID", ""),
    ],
)
@pytest.mark.parametrize("before", [0, 3])
def test_bad_row_is_refused_with_line_and_column(tmp_path, row, column, said, before):
    text = "\r\n".join([HEADER, *[ROW] * before, row, ROW, ""])
    with pytest.raises(BadTripFileError) as refused:
        read(tmp_path, text)
    assert f"green_tripdata_2020-04.csv.gz, line {before + 2}, column {column}" in str(refused.value) or not row
    assert f"line {before + 2}" in str(refused.value)
    assert said in str(refused.value)


def test_row_cut_at_the_end_of_the_file(tmp_path):
    with pytest.raises(BadTripFileError, match="line 3, column lpep_pickup_datetime"):
        read(tmp_path, f"{HEADER}\r\n{ROW}\r\n2,2020-04-0")


def test_lines_are_counted_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(trip_csv, "BLOCK_BYTES", 1000)
    with pytest.raises(BadTripFileError, match="line 102, column"):
        read(tmp_path, "\n".join([HEADER, *[ROW] * 100, with_field("fare_amount", "x"), ROW]))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (HEADER.replace(",ehail_fee", ""), "missing ehail_fee"),
        (HEADER + ",airport_fee", "unexpected 'airport_fee'"),
        (HEADER.replace("VendorID", "vendor_id"), "missing VendorID; unexpected 'vendor_id'"),
        (HEADER.replace("RatecodeID,PULocationID", "PULocationID,RatecodeID"), "out of place RatecodeID (column 6"),
        (",".join(COLORS["yellow"].header), "missing lpep_pickup_datetime"),
        ("," + HEADER, "unexpected a column without a name"),
    ],
)
def test_wrong_header_is_refused_with_the_difference(tmp_path, header, said):
    with pytest.raises(BadTripFileError) as refused:
        read(tmp_path, f"{header}\n{ROW}\n")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (gzip.compress(f"{HEADER}\r\n".encode(), mtime=0), "has a header but no rows"),
        (gzip.compress(HEADER.encode(), mtime=0), "has a header but no rows"),
        (b"<!DOCTYPE html><html>Not here</html>", "is not gzip, it begins with '<!DOCTYPE html>"),
        (gzip.compress(f"{HEADER}\n{ROW}\n".encode(), mtime=0)[:-9], "ends before its gzip trailer"),
        (gzip.compress(f"{HEADER}\n{ROW}\n".encode(), mtime=0)[:-8] + b"\0" * 8, "is broken (CRC check failed"),
        (gzip.compress(f"{HEADER}\n{ROW}\n".encode(), mtime=0) + b"<html>", "is broken"),
        (gzip.compress(b"x" * 100_000, mtime=0), "has a line of more than"),
    ],
)
def test_what_is_no_trip_file_is_refused(tmp_path, data, said):
    path = tmp_path / GREEN.gz_name
    path.write_bytes(data)
    with pytest.raises(BadTripFileError) as refused:
        TripCsv(path, GREEN).count()
    assert said in str(refused.value)


def test_blank_line_between_rows(tmp_path):
    with pytest.raises(BadTripFileError, match="line 3"):
        read(tmp_path, f"{HEADER}\n{ROW}\n\n{ROW}\n")


FIELDS = st.sampled_from(
    ["", "1", "-1", ".79", "1.5", "1e-05", "2020-04-01 00:30:00", "2020-04-01 0:30:00", "2020-04-01", "N", "x", " 1",
     "1 ", "--", "1:1", "\t"]
)  # fmt: skip


@given(st.lists(st.lists(FIELDS, min_size=18, max_size=21), min_size=1, max_size=4), st.data())
def test_the_quick_look_agrees_with_the_pattern_of_a_row(many, data):
    """Numbers aside, which Postgres parses, a block that looks plain consists of rows that match the pattern."""
    many = [data.draw(st.sampled_from([",".join(fields), ROW, NULLS])) for fields in many]
    csv = TripCsv(GREEN.gz_name, GREEN)
    plain = csv._is_plain("".join(f"{line}\n" for line in many).encode())
    numbers = ("integer", "double precision")
    as_numbers = [
        ",".join(
            "1" if column and column.type in numbers and field and " " not in field else field
            for field, column in itertools.zip_longest(line.split(","), GREEN.color.columns[: line.count(",") + 1])
        )
        for line in many
    ]
    if plain:
        assert all(csv._row.fullmatch(line.encode()) for line in as_numbers)
    if all(line in (ROW, NULLS) for line in many):
        assert plain


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("yellow_truncated_midline", "line 220, column tpep_pickup_datetime"),
        ("yellow_excel_dates", "line 2, column tpep_pickup_datetime: '01/01/2021 0:30' is not a time"),
        ("yellow_pandas_float_ints", "unexpected a column without a name"),
    ],
)
def test_real_bad_files(tmp_path, real_data, name, said):
    trip_file = TripFile.of("yellow", "2021-01")
    with pytest.raises(BadTripFileError) as refused:
        list(reading(tmp_path, (real_data / "bad" / f"{name}.csv").read_bytes(), trip_file).blocks())
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "rows"), [("real/green_tripdata_2020-04", 35_612), ("head/yellow_tripdata_2021-01", 22_792)]
)
def test_real_files_take_the_quick_way(real_data, name, rows):
    color, month = name.partition("/")[2].split("_tripdata_")
    csv = TripCsv(real_data / f"{name}.csv.gz", TripFile.of(color, month))
    assert all(csv._is_plain(block) for block in csv.blocks())
    assert csv.rows == rows
