"""Staging and merging on real servers of two versions, by socket and by TCP: what is in the tables afterwards."""

import gzip
import random
import threading
from functools import partial

import pytest

from taxi_assets.errors import BadTripFileError, TaxiError, TransientError
from taxi_assets.resources.postgres import Postgres, StagingMissingError
from taxi_assets.sample import write_sample
from taxi_assets.trips import COLORS, TripFile
from tests.servers import connect, one, rows


def load(postgres, trip_file, path, **options):
    postgres.stage(trip_file, path)
    return postgres.merge(trip_file, **options)


def write(folder, color, month, n=3000):
    trip_file = TripFile.of(color, month)
    path = folder / trip_file.gz_name
    write_sample(trip_file, path, n)
    return trip_file, path


def contents(postgres, color="green"):
    """Every row of a final table, as text, in a fixed order: two tables are the same if these are."""
    table = f"public.{color}_tripdata"
    return rows(postgres.url, f"SELECT t::text FROM {table} t ORDER BY 1")


@pytest.mark.parametrize("color", COLORS)
def test_a_month_is_loaded_whole(postgres, tmp_path, color):
    trip_file, path = write(tmp_path, color, "2020-02")
    staged = postgres.stage(trip_file, path)
    assert staged.rows == 3000
    assert postgres.staged_rows(trip_file) == 3000
    merged = postgres.merge(trip_file)
    assert (merged.rows, merged.inserted, merged.there_already) == (3000, 3000, 0)

    found = rows(postgres.url, f"SELECT * FROM public.{color}_tripdata")
    text = gzip.decompress(path.read_bytes()).decode().split("\r\n")[1:-1]
    assert len(found) == len(text)
    assert {row[1] for row in found} == {trip_file.csv_name}
    assert sorted(_as_text(row[2:]) for row in found) == sorted(_normal(line) for line in text)


def _as_text(values):
    return ["" if value is None else str(value) if not isinstance(value, float) else f"{value:g}" for value in values]


def _normal(line):
    fields = line.split(",")
    return [f"{float(field):g}" if "." in field else field for field in fields]


def test_the_table_is_as_published(postgres, green):
    load(postgres, *green)
    columns = rows(
        postgres.url,
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name = 'green_tripdata' ORDER BY ordinal_position",
    )
    expected = [(c.postgres_name, c.type) for c in COLORS["green"].table_columns]
    assert [(name, type_.replace(" without time zone", "")) for name, type_ in columns] == expected
    assert "VendorID" not in dict(columns), "unquoted names must work"
    described = one(postgres.url, "SELECT col_description('public.green_tripdata'::regclass, 10)")
    assert described == COLORS["green"].table_columns[9].description


def test_staging_is_dropped_unless_it_is_to_be_kept(postgres, green):
    load(postgres, *green)
    assert postgres.staged() == set()
    load(postgres, *green, keep_staging=True)
    assert postgres.staged() == {"green_tripdata_2020_04"}
    assert one(postgres.url, "SELECT count(*) FROM staging.green_tripdata_2020_04") == 2000


def test_loading_again_inserts_nothing(postgres, green):
    load(postgres, *green)
    before = contents(postgres)
    again = load(postgres, *green)
    assert (again.inserted, again.there_already) == (0, 2000)
    assert contents(postgres) == before


def test_rows_that_share_an_id_are_all_inserted_once(postgres, green):
    trip_file, path = green
    load(postgres, trip_file, path)
    assert one(postgres.url, "SELECT count(*) - count(DISTINCT unique_row_id) FROM green_tripdata") > 0
    assert postgres.rows_sharing_an_id(trip_file) == one(
        postgres.url,
        "SELECT count(*) FROM green_tripdata WHERE unique_row_id IN "
        "(SELECT unique_row_id FROM green_tripdata GROUP BY 1 HAVING count(*) > 1)",
    )


def test_a_new_edition_adds_what_is_new(postgres, green, green_text):
    trip_file, path = green
    load(postgres, trip_file, path)
    new = b"2,2020-04-30 12:00:00,2020-04-30 12:01:00,N,1,1,1,1,1,1,0,0,0,0,,0,1,1,1,0\r\n"
    stray = b"2,2020-05-02 12:00:00,2020-05-02 12:01:00,N,1,1,1,1,1,1,0,0,0,0,,0,1,1,1,0\r\n"
    path.write_bytes(gzip.compress(green_text + new + stray))
    again = load(postgres, trip_file, path)
    assert (again.rows, again.inserted) == (2002, 2)
    assert postgres.merged_rows(trip_file) == 2002


def test_any_order_and_all_at_once_give_the_same_table(server, tmp_path):
    files = [write(tmp_path, "green", month) for month in ("2020-01", "2020-02", "2020-03", "2020-04")]
    tables = []
    for turn in range(3):
        postgres = Postgres(url=server.make_database())
        if turn < 2:
            for trip_file, path in random.Random(turn).sample(files, len(files)):
                load(postgres, trip_file, path)
        else:
            _together([partial(load, Postgres(url=postgres.url), *file) for file in files + files])
        tables.append(contents(postgres))
    assert len(tables[0]) == 12_000
    assert tables[0] == tables[1] == tables[2]


def _together(calls):
    failed = []

    def run(call):
        try:
            call()
        except StagingMissingError:
            pass  # the other run of the same partition merged what both had staged
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_trip_of_one_file_is_not_inserted_from_another(postgres, tmp_path, green_text):
    """A stray of one file may stand in the other, too: the id is looked for in the whole month of its pickup."""
    header, first, *_ = green_text.split(b"\r\n")
    for month in ("2020-04", "2020-03"):
        trip_file = TripFile.of("green", month)
        path = tmp_path / "one.gz"
        path.write_bytes(gzip.compress(header + b"\r\n" + first + b"\r\n"))
        merged = load(postgres, trip_file, path)
        assert merged.inserted == (month == "2020-04")
    assert one(postgres.url, "SELECT count(*) FROM green_tripdata") == 1


def test_partitions_by_month_of_pickup_and_file(postgres, tmp_path):
    trip_file, path = write(tmp_path, "green", "2020-02")
    load(postgres, trip_file, path)
    partitions = dict(
        rows(
            postgres.url,
            "SELECT tableoid::regclass::text, count(*) FROM green_tripdata GROUP BY 1 ORDER BY 2 DESC",
        )
    )
    name, most = next(iter(partitions.items()))
    assert name == "partitions.green_tripdata_2020_02__2020_02"
    assert 2980 < most < 3000
    assert sum(partitions.values()) == 3000
    assert "partitions.green_tripdata_2008_12__2020_02" in partitions
    assert postgres.merged(trip_file.color) == {"2020-02"}
    assert not rows(
        postgres.url, "SELECT * FROM pg_inherits WHERE pg_get_expr("
        "(SELECT relpartbound FROM pg_class WHERE oid = inhrelid), inhrelid) = 'DEFAULT'"
    )  # fmt: skip


def test_readers_are_not_blocked_by_a_merge(postgres, tmp_path):
    load(postgres, *write(tmp_path, "green", "2020-01"))
    with connect(postgres.url) as reader:
        reader.execute("SELECT count(*) FROM green_tripdata")  # and keeps its lock
        loader = threading.Thread(target=load, args=[Postgres(url=postgres.url), *write(tmp_path, "green", "2020-02")])
        loader.start()
        loader.join(timeout=30)
        assert not loader.is_alive()
        assert reader.execute("SELECT count(*) FROM green_tripdata").fetchone() == (6000,)


MADE_BY_OTHERS = """
    CREATE TABLE public.green_tripdata (
        unique_row_id text, filename text, VendorID text, lpep_pickup_datetime timestamp,
        lpep_dropoff_datetime timestamp, store_and_fwd_flag text, RatecodeID text, PULocationID text,
        DOLocationID text, passenger_count integer, trip_distance double precision, fare_amount double precision,
        extra double precision, mta_tax double precision, tip_amount double precision, tolls_amount double precision,
        ehail_fee double precision, improvement_surcharge double precision, total_amount double precision,
        payment_type integer, trip_type integer, congestion_surcharge double precision)
"""


def test_a_table_made_by_others_is_merged_into(postgres, server, tmp_path):
    with connect(postgres.url) as connection:
        connection.execute(MADE_BY_OTHERS)
    ours = Postgres(url=server.make_database())
    for month in ("2020-01", "2020-02"):
        file = write(tmp_path, "green", month)
        assert load(postgres, *file).inserted == load(ours, *file).inserted == 3000
    assert load(postgres, *file).inserted == 0
    assert contents(postgres) == contents(ours)
    assert one(postgres.url, "SELECT relkind FROM pg_class WHERE oid = 'public.green_tripdata'::regclass") == "r"


def test_a_table_with_other_columns_is_left_alone(postgres, green):
    with connect(postgres.url) as connection:
        connection.execute("CREATE TABLE public.green_tripdata (id integer)")
    with pytest.raises(
        TaxiError, match="public.green_tripdata is there already with other columns .*missing congestion"
    ):
        load(postgres, *green)
    assert postgres.staged() == {"green_tripdata_2020_04"}


def test_merge_without_staging_says_so(postgres, green):
    with pytest.raises(StagingMissingError, match="staging.green_tripdata_2020_04 is not there: materialize"):
        postgres.merge(green[0])
    assert rows(postgres.url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


def test_staging_that_lost_its_rows_is_not_merged(own_server, green):
    """An unlogged table is empty after a crash of the server."""
    postgres = Postgres(url=own_server.make_database())
    trip_file, path = green
    postgres.stage(trip_file, path)
    own_server.crash()
    own_server.start()
    with pytest.raises(
        TaxiError, match="has lost its rows.*materialize postgres_staging_trips for green|2020-04 again"
    ):
        postgres.merge(trip_file)
    assert load(postgres, trip_file, path).inserted == 2000


def with_row(text, number, change):
    lines = text.split(b"\r\n")
    lines[number] = change(lines[number])
    return b"\r\n".join(lines)


def with_field(column, value):
    place = COLORS["green"].header.index(column)

    def change(line):
        fields = line.split(b",")
        fields[place] = value
        return b",".join(fields)

    return change


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (with_field("passenger_count", b"1.0"), "passenger_count"),
        (with_field("passenger_count", b"99999999999"), "passenger_count"),
        (with_field("fare_amount", b"1-2"), "fare_amount"),
        (with_field("fare_amount", b"1e999"), "fare_amount"),
        (with_field("lpep_pickup_datetime", b"2020-02-30 00:00:00"), "lpep_pickup_datetime"),
        (with_field("lpep_pickup_datetime", b"01/01/2021 0:30"), "lpep_pickup_datetime"),
        (with_field("lpep_dropoff_datetime", b"2020-04-01 25:00:00"), "lpep_dropoff_datetime"),
        (with_field("store_and_fwd_flag", b"N\0"), "store_and_fwd_flag"),
        (with_field("store_and_fwd_flag", b"\xc3\x28"), "store_and_fwd_flag"),
        (lambda line: line + b",1", "congestion_surcharge"),
        (lambda line: line.rpartition(b",")[0], "trip_type"),
    ],
)
def test_a_bad_row_changes_nothing(postgres, green, green_text, change, column):
    trip_file, path = green
    good = path.read_bytes()
    load(postgres, trip_file, path, keep_staging=True)
    before = contents(postgres)
    path.write_bytes(gzip.compress(with_row(green_text, 1500, change)))
    with pytest.raises(BadTripFileError) as refused:
        postgres.stage(trip_file, path)
    assert f"green_tripdata_2020-04.csv.gz, line 1501, column {column}: " in str(refused.value)
    assert "\n" not in str(refused.value)
    assert contents(postgres) == before
    assert postgres.staged_rows(trip_file) == 2000, "staging is as it was"
    path.write_bytes(good)
    assert load(postgres, trip_file, path).inserted == 0


@pytest.mark.parametrize("change", [with_field("lpep_pickup_datetime", b"2020-02-30 00:00:00"), lambda line: line[:20]])
def test_a_bad_first_load_leaves_nothing(postgres, green, green_text, change):
    trip_file, path = green
    path.write_bytes(gzip.compress(with_row(green_text, 1999, change)))
    with pytest.raises(BadTripFileError):
        postgres.stage(trip_file, path)
    assert postgres.staged() == set()


def test_the_servers_settings_do_not_change_the_id(postgres, green):
    name = postgres.url.partition("?")[0].rpartition("/")[2]
    with connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET datestyle = 'SQL, DMY'")
        connection.execute(f"ALTER DATABASE {name} SET extra_float_digits = 0")
    trip_file, path = green
    path.write_bytes(gzip.compress(ONE_TRIP))
    load(postgres, trip_file, path)
    assert one(postgres.url, "SELECT unique_row_id FROM green_tripdata") == "bec198c080f36f5f490430b1a7e731e0"


ONE_TRIP = (",".join(COLORS["green"].header) + "\r\n").encode() + (
    b",2020-04-01 00:06:00,2020-04-01 00:12:00,,,42,41,,1.65,9.73,2.75,0,0,0,,.3,12.78,,,\r\n"
)


def test_real_month(postgres, real_data):
    trip_file = TripFile.of("green", "2020-04")
    path = real_data / "real" / trip_file.gz_name
    for inserted in (35_612, 0):
        assert load(postgres, trip_file, path).inserted == inserted
        facts = rows(
            postgres.url,
            "SELECT count(*), round(sum(total_amount)::numeric, 2), round(sum(fare_amount)::numeric, 2), "
            "count(DISTINCT unique_row_id), count(*) FILTER (WHERE vendorid IS NULL), "
            "count(*) FILTER (WHERE fare_amount < 0), max(trip_distance), min(lpep_pickup_datetime)::text "
            "FROM green_tripdata",
        )[0]
        assert [str(fact) for fact in facts] == [
            "35612", "701002.26", "590863.20", "35612", "11110", "122", "55027.35", "2009-01-01 00:03:41",
        ]  # fmt: skip
    assert postgres.pickups_outside_month(trip_file) == (35_612, 6)


def test_real_head_of_a_yellow_month(postgres, real_data):
    trip_file = TripFile.of("yellow", "2021-01")
    assert load(postgres, trip_file, real_data / "head" / trip_file.gz_name).inserted == 22_792
    assert postgres.pickups_outside_month(trip_file) == (22_792, 16)
    assert postgres.rows_sharing_an_id(trip_file) == 0
    assert one(postgres.url, "SELECT count(*) FROM yellow_tripdata WHERE fare_amount < 0") == 199


def test_a_wrong_password(password_server, green):
    postgres = Postgres(url=password_server.url("postgres", password="guess-me"))
    with pytest.raises(TaxiError) as refused:
        postgres.stage(*green)
    assert "password authentication failed for user" in str(refused.value)
    assert "check user and password in TAXI_POSTGRES_URL" in str(refused.value)
    assert not isinstance(refused.value, TransientError)
    assert "guess-me" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_database(server, green):
    with pytest.raises(TaxiError, match='database "nowhere" does not exist.*create it') as refused:
        Postgres(url=server.url("nowhere")).stage(*green)
    assert not isinstance(refused.value, TransientError)


def test_a_server_that_is_not_there(green):
    with pytest.raises(TransientError, match="Connection refused.*start the server"):
        Postgres(url="postgresql://postgres@127.0.0.1:9/trips").stage(*green)


@pytest.mark.parametrize(
    "url",
    [
        "postgres//user:hidden@host/db",
        "postgresql://user:hidden@host:port/db",
        "hidden",
        "postgresql://u:p@hidden/x@h/db",
    ],
)
def test_a_url_that_is_none(green, url):
    with pytest.raises(TaxiError) as refused:
        Postgres(url=url).stage(*green)
    assert "hidden" not in str(refused.value)


def test_a_url_with_a_driver_in_it(server, green):
    url = server.make_database().replace("postgresql://", "postgresql+psycopg2://")
    assert load(Postgres(url=url), *green).inserted == 2000


def test_a_user_without_rights(postgres, server, green):
    role = f"reader_{postgres.url.partition('?')[0].rpartition('_')[2]}"
    with connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    url = f"postgresql://{role}:x@{postgres.url.rpartition('@')[2]}"
    with pytest.raises(TaxiError, match="Postgres does not allow it .permission denied.*grant"):
        Postgres(url=url).stage(*green)


def test_preview_and_trips_per_day(postgres, green):
    trip_file, path = green
    load(postgres, trip_file, path)
    preview = postgres.preview(trip_file)
    assert len(preview) == 10
    assert list(preview[0]) == [column.postgres_name for column in trip_file.color.table_columns]
    days = postgres.trips_per_day(trip_file)
    assert len(days) == 30
    rows_, outside = postgres.pickups_outside_month(trip_file)
    assert sum(count for _, count in days) == rows_ - outside


def test_a_table_that_others_partitioned_is_merged_into(postgres, green):
    with connect(postgres.url) as connection:
        connection.execute(MADE_BY_OTHERS.rstrip().removesuffix(";") + " PARTITION BY LIST (vendorid)")
        connection.execute("CREATE TABLE the_rest PARTITION OF public.green_tripdata DEFAULT")
    assert load(postgres, *green).inserted == 2000
    assert load(postgres, *green).inserted == 0
    assert one(postgres.url, "SELECT count(*) FROM the_rest") == 2000
