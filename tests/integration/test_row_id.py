"""The row id: equal to the published ones, and to what its definition says for any values."""

import hashlib
import math
import struct
from datetime import datetime

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from taxi_assets.resources.postgres import SESSION_SETTINGS, _Names
from taxi_assets.trips import COLORS, TripFile
from tests.servers import Server, connect

PUBLISHED = [
    ("1", "2019-01-01 00:46:40", "2019-01-01 00:53:20", "151", "239", "7", "1.5", "cfefc5173cf20c3ddd4989e79dc5aba9"),
    ("", "2020-04-01 00:06:00", "2020-04-01 00:12:00", "42", "41", "9.73", "1.65", "bec198c080f36f5f490430b1a7e731e0"),
    ("2", "2020-04-01 07:26:09", "2020-04-01 07:29:26", "74", "74", "-5", ".79", "ea96d094248ba60790168e4c58423f72"),
]  # fmt: skip


@pytest.fixture(scope="module")
def ids(server: Server):
    """Asks Postgres for the ids of rows, by the statement of the merge."""
    trip_file = TripFile.of("green", "2020-04")
    names = _Names(trip_file, source="some_trips")
    types = {column.name: column.type for column in COLORS["green"].columns}
    infinite = psycopg.sql.Literal("-infinity"), psycopg.sql.Literal("infinity")
    query = names.statement("select_rows", first_day=infinite[0], next_month=infinite[1])
    with connect(server.make_database(), autocommit=True) as connection:
        for name, value in SESSION_SETTINGS.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        columns = ", ".join(f"{name} {type_}" for name, type_ in types.items())
        connection.execute(f"CREATE TEMPORARY TABLE some_trips ({columns})")

        def ask(*fields: str) -> str:
            row = dict(zip(trip_file.color.row_id, fields, strict=True))
            connection.execute("TRUNCATE some_trips")
            with connection.cursor().copy("COPY some_trips FROM STDIN (FORMAT csv)") as copy:
                copy.write(",".join(row.get(name, "") for name in types) + "\n")
            return connection.execute(query).fetchone()[0]

        yield ask


@pytest.mark.parametrize("row", PUBLISHED)
def test_published_ids(ids, row):
    *fields, expected = row
    assert ids(*fields) == expected


def double(text: str) -> str:
    """A number as the definition of the id writes it: the shortest text that is the same double."""
    if not text:
        return ""
    value = float(text)
    sign = "-" if math.copysign(1, value) < 0 else ""
    digits, _, exponent = f"{abs(value):.17e}".partition("e")
    for precision in range(17):
        digits, _, exponent = f"{abs(value):.{precision}e}".partition("e")
        if float(f"{digits}e{exponent}") == abs(value):
            break
    power = int(exponent)
    if value and not -5 < power < 15:
        return f"{sign}{digits}e{'-' if power < 0 else '+'}{abs(power):02d}"
    number = f"{abs(value):.{max(precision - power, 0)}f}"
    return sign + (number.rstrip("0").rstrip(".") if "." in number else number)


@pytest.mark.parametrize(
    ("text", "written"),
    [("5.0", "5"), (".79", "0.79"), ("1e15", "1e+15"), ("0.00001", "1e-05"), ("-5", "-5"), ("100", "100"), ("0", "0"),
     ("0.0001", "0.0001"), ("123456789012345", "123456789012345"), ("55027.35", "55027.35"), ("", "")],
)  # fmt: skip
def test_the_definition_of_a_number(text, written):
    assert double(text) == written


text = st.sampled_from(["", "1", "2", "6"])
zone = st.integers(1, 265).map(str)
time = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(9999, 12, 31)).map(
    lambda value: f"{value:%Y-%m-%d %H:%M:%S}".rjust(19, "0")
)
cents = st.integers(-10_000_000, 10_000_000).map(lambda value: f"{value / 100:.2f}")
any_double = st.binary(min_size=8, max_size=8).map(lambda raw: struct.unpack("d", raw)[0])
number = st.one_of(cents, any_double.filter(math.isfinite).map(repr), st.just(""))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text, time, st.one_of(st.just(""), time), st.one_of(st.just(""), zone), zone, number, number)
@example("1", "2020-04-01 00:00:00", "", "", "1", "1e15", "5e-324")
@example("1", "2020-04-01 00:00:00", "", "", "1", "-0", "1.7976931348623157e308")
def test_the_id_is_the_md5_of_the_seven_columns(
    ids, vendor, pickup, dropoff, pickup_zone, dropoff_zone, fare, distance
):
    expected = vendor + pickup + dropoff + pickup_zone + dropoff_zone + double(fare) + double(distance)
    found = ids(vendor, pickup, dropoff, pickup_zone, dropoff_zone, fare, distance)
    assert found == hashlib.md5(expected.encode()).hexdigest()
