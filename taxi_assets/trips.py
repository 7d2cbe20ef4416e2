"""What a trip file of one colour and month is: its columns, their types, and the names of its file and tables.

Everything that the rest of the project knows about yellow and green taxis is declared here, so that another
kind of trip file is one more `Color`. Nothing here touches a network, a disk or a database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

FIRST_MONTH = "2019-01"


BIGQUERY_TYPES = {"text": "STRING", "timestamp": "TIMESTAMP", "integer": "INT64", "double precision": "NUMERIC"}


@dataclass(frozen=True)
class Column:
    """One column of a trip file.

    Attributes:
        type: its type in Postgres.
        description: the TLC's meaning of it.
        bigquery: its type in BigQuery, where that does not follow from the one in Postgres.
    """

    name: str
    type: str
    description: str
    bigquery: str = ""

    @property
    def postgres_name(self) -> str:
        """The name as Postgres folds it, so that `SELECT VendorID` finds it without quotes."""
        return self.name.lower()

    @property
    def bigquery_type(self) -> str:
        """Its type in BigQuery."""
        return self.bigquery or BIGQUERY_TYPES[self.type]


ROW_ID = Column(
    "unique_row_id", "text", "md5 of the columns that tell one trip from another; it names a trip, it is no key."
)
FILENAME = Column("filename", "text", "The CSV file that the row came from.")


@dataclass(frozen=True)
class Color:
    """One kind of taxi.

    Attributes:
        name: as in file and table names.
        columns: the header of its CSV files, in order.
        pickup: the timestamp column whose month partitions the tables.
        row_id: the columns that `unique_row_id` is made of, in order.
        published_rows: month to number of rows, where the course has published it.
    """

    name: str
    columns: tuple[Column, ...]
    pickup: str
    row_id: tuple[str, ...]
    published_rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def header(self) -> list[str]:
        """The names of the columns, in order."""
        return [column.name for column in self.columns]

    @property
    def table(self) -> str:
        """The final table, in schema `public` of Postgres and in the dataset of BigQuery."""
        return f"{self.name}_tripdata"

    @property
    def table_columns(self) -> tuple[Column, ...]:
        """The final table's columns: the id, the file's name, then the columns of the CSV."""
        return (ROW_ID, FILENAME, *self.columns)


@dataclass(frozen=True)
class TripFile:
    """The trips of one colour in one month, `2020-04`, as the TLC publishes them: one file."""

    color: Color
    month: str

    @classmethod
    def of(cls, color: str, month: str) -> TripFile:
        """By the color's name and the month, `2020-04`."""
        return cls(COLORS[color], month)

    @property
    def stem(self) -> str:
        """The name without its endings: `green_tripdata_2020-04`."""
        return f"{self.color.name}_tripdata_{self.month}"

    @property
    def csv_name(self) -> str:
        """What the `filename` column holds: `green_tripdata_2020-04.csv`."""
        return f"{self.stem}.csv"

    @property
    def gz_name(self) -> str:
        """The file as it is published and kept: `green_tripdata_2020-04.csv.gz`."""
        return f"{self.stem}.csv.gz"

    @property
    def staging_table(self) -> str:
        """The month's table, in schema `staging` of Postgres and in the dataset: `green_tripdata_2020_04`."""
        return self.stem.replace("-", "_")

    @property
    def external_table(self) -> str:
        """BigQuery's view of the file in the bucket: `green_tripdata_2020_04_ext`."""
        return f"{self.staging_table}_ext"

    @property
    def first_day(self) -> date:
        """The first day of the month."""
        return date.fromisoformat(f"{self.month}-01")

    def has(self, day: date) -> bool:
        """Whether a day lies in the month."""
        return self.first_day <= day < next_month(self.first_day)

    @property
    def partition_key(self) -> str:
        """As Dagster writes it: the dimensions' values in the order of the dimensions' names."""
        return f"{self.color.name}|{self.month}"


def next_month(day: date) -> date:
    """The first day of the month after the month of `day`."""
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def header_difference(expected: Sequence[str], found: Sequence[str]) -> str | None:
    """Say how a header differs from the expected one: what is missing, unexpected or out of place.

    Returns:
        None where they are the same.
    """
    if list(expected) == list(found):
        return None
    missing = [name for name in expected if name not in found]
    unexpected = [repr(name[:40]) if name else "a column without a name" for name in found if name not in expected]
    repeated = sorted({name for name in found if found.count(name) > 1})
    parts = [
        f"{what} {', '.join(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("repeated", repeated))
        if names
    ]
    if not parts:
        moved = [
            f"{name} (column {found.index(name) + 1} instead of {place})"
            for place, name in enumerate(expected, 1)
            if found[place - 1] != name
        ]
        parts = [f"out of place {', '.join(moved)}"]
    return "; ".join(parts)


# The columns that both colours share, described after the TLC's data dictionaries for yellow and green trips
# (nyc.gov/site/tlc, "TLC Trip Record Data").
VENDOR = Column(
    "VendorID",
    "text",
    "Who supplied the record: 1 Creative Mobile Technologies, 2 Curb (VeriFone); empty where unknown.",
)
FLAG = Column(
    "store_and_fwd_flag", "text", "Y if the meter kept the record for lack of a connection and sent it later, else N."
)
RATE = Column(
    "RatecodeID",
    "text",
    "Rate at the end of the trip: 1 standard, 2 JFK, 3 Newark, 4 Nassau or Westchester, 5 negotiated, 6 group ride.",
)
PICKUP_ZONE = Column("PULocationID", "text", "Taxi zone in which the meter was switched on (1 to 265).")
DROPOFF_ZONE = Column("DOLocationID", "text", "Taxi zone in which the meter was switched off (1 to 265).")
PASSENGERS = Column("passenger_count", "integer", "Passengers, as entered by the driver.")
DISTANCE = Column("trip_distance", "double precision", "Distance by the taximeter, in miles.")
PAYMENT = Column(
    "payment_type", "integer", "How it was paid: 1 card, 2 cash, 3 no charge, 4 dispute, 5 unknown, 6 voided trip."
)
FARE = Column("fare_amount", "double precision", "Fare by time and distance, in dollars; negative for refunds.")
EXTRA = Column("extra", "double precision", "Extras and surcharges, such as rush hour and overnight, in dollars.")
MTA_TAX = Column("mta_tax", "double precision", "MTA tax that the metered rate triggers, in dollars.")
TIP = Column("tip_amount", "double precision", "Tip by card, in dollars; cash tips are not recorded.")
TOLLS = Column("tolls_amount", "double precision", "All tolls of the trip, in dollars.")
IMPROVEMENT = Column(
    "improvement_surcharge", "double precision", "Improvement surcharge at the drop of the flag, in dollars."
)
TOTAL = Column(
    "total_amount", "double precision", "What the passenger was charged, cash tips not included, in dollars."
)
CONGESTION = Column(
    "congestion_surcharge",
    "double precision",
    "New York State's congestion surcharge, in dollars; mostly empty before February 2019.",
)
EHAIL = Column("ehail_fee", "double precision", "Fee for hailing by app, in dollars; always empty.")
TRIP_TYPE = Column("trip_type", "integer", "1 hailed in the street, 2 dispatched.", bigquery="STRING")


def _time(name: str, what: str) -> Column:
    return Column(name, "timestamp", f"When the meter was switched {what}, New York time.")


YELLOW = Color(
    name="yellow",
    columns=(
        VENDOR,
        _time("tpep_pickup_datetime", "on"),
        _time("tpep_dropoff_datetime", "off"),
        PASSENGERS,
        DISTANCE,
        RATE,
        FLAG,
        PICKUP_ZONE,
        DROPOFF_ZONE,
        PAYMENT,
        FARE,
        EXTRA,
        MTA_TAX,
        TIP,
        TOLLS,
        IMPROVEMENT,
        TOTAL,
        CONGESTION,
    ),
    pickup="tpep_pickup_datetime",
    row_id=(
        "VendorID",
        "tpep_pickup_datetime",
        "tpep_dropoff_datetime",
        "PULocationID",
        "DOLocationID",
        "fare_amount",
        "trip_distance",
    ),
    published_rows={
        "2020-01": 6405008,
        "2020-02": 6299354,
        "2020-03": 3007292,
        "2020-04": 237993,
        "2020-05": 348371,
        "2020-06": 549760,
        "2020-07": 800412,
        "2020-08": 1007284,
        "2020-09": 1341012,
        "2020-10": 1681131,
        "2020-11": 1508985,
        "2020-12": 1461897,
        "2021-01": 1369765,
        "2021-03": 1925152,
    },
)

GREEN = Color(
    name="green",
    columns=(
        VENDOR,
        _time("lpep_pickup_datetime", "on"),
        _time("lpep_dropoff_datetime", "off"),
        FLAG,
        RATE,
        PICKUP_ZONE,
        DROPOFF_ZONE,
        PASSENGERS,
        DISTANCE,
        FARE,
        EXTRA,
        MTA_TAX,
        TIP,
        TOLLS,
        EHAIL,
        IMPROVEMENT,
        TOTAL,
        PAYMENT,
        TRIP_TYPE,
        CONGESTION,
    ),
    pickup="lpep_pickup_datetime",
    row_id=(
        "VendorID",
        "lpep_pickup_datetime",
        "lpep_dropoff_datetime",
        "PULocationID",
        "DOLocationID",
        "fare_amount",
        "trip_distance",
    ),
    published_rows={
        "2020-01": 447770,
        "2020-02": 398632,
        "2020-03": 223406,
        "2020-04": 35612,
        "2020-05": 57360,
        "2020-06": 63109,
        "2020-07": 72257,
        "2020-08": 81063,
        "2020-09": 87987,
        "2020-10": 95120,
        "2020-11": 88605,
        "2020-12": 83130,
    },
)

COLORS: Mapping[str, Color] = {color.name: color for color in (YELLOW, GREEN)}
