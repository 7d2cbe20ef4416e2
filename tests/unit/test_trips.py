"""The nouns: names and headers as the archive has them."""

from datetime import date

import pytest

from taxi_assets.trips import COLORS, TripFile, header_difference, next_month

HEADERS = {
    "green": "VendorID,lpep_pickup_datetime,lpep_dropoff_datetime,store_and_fwd_flag,RatecodeID,PULocationID,"
    "DOLocationID,passenger_count,trip_distance,fare_amount,extra,mta_tax,tip_amount,tolls_amount,ehail_fee,"
    "improvement_surcharge,total_amount,payment_type,trip_type,congestion_surcharge",
    "yellow": "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,RatecodeID,"
    "store_and_fwd_flag,PULocationID,DOLocationID,payment_type,fare_amount,extra,mta_tax,tip_amount,tolls_amount,"
    "improvement_surcharge,total_amount,congestion_surcharge",
}


@pytest.mark.parametrize("color", COLORS)
def test_header_is_the_archives(color):
    assert ",".join(COLORS[color].header) == HEADERS[color]


@pytest.mark.parametrize("color", COLORS.values(), ids=COLORS)
def test_types_are_those_of_the_published_tables(color):
    types = {column.name: column.type for column in color.columns}
    text = {"VendorID", "store_and_fwd_flag", "RatecodeID", "PULocationID", "DOLocationID"}
    integer = {"passenger_count", "payment_type", "trip_type"}
    for name, type_ in types.items():
        expected = (
            "text" if name in text
            else "timestamp" if name.endswith("_datetime")
            else "integer" if name in integer
            else "double precision"
        )  # fmt: skip
        assert type_ == expected, name


def test_every_column_is_described():
    assert all(column.description for color in COLORS.values() for column in color.table_columns)


def test_names():
    trip_file = TripFile.of("green", "2020-04")
    assert trip_file.gz_name == "green_tripdata_2020-04.csv.gz"
    assert trip_file.csv_name == "green_tripdata_2020-04.csv"
    assert trip_file.staging_table == "green_tripdata_2020_04"
    assert trip_file.color.table == "green_tripdata"
    assert trip_file.partition_key == "green|2020-04"


def test_published_years_add_up():
    year = {name: sum(rows for month, rows in color.published_rows.items() if month[:4] == "2020")
            for name, color in COLORS.items()}  # fmt: skip
    assert year == {"yellow": 24_648_499, "green": 1_734_051}


def test_next_month():
    assert next_month(date(2020, 4, 1)) == date(2020, 5, 1)
    assert next_month(date(2020, 12, 31)) == date(2021, 1, 1)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (["a", "b", "c"], None),
        (["a", "c"], "missing b"),
        (["a", "b", "c", "d"], "unexpected 'd'"),
        (["a", "B", "c"], "missing b; unexpected 'B'"),
        (["", "a", "b", "c"], "unexpected a column without a name"),
        (["a", "b", "b", "c"], "repeated b"),
        (["b", "a", "c"], "out of place a (column 2 instead of 1), b (column 1 instead of 2)"),
    ],
)
def test_header_difference(found, said):
    assert header_difference(["a", "b", "c"], found) == said
