"""Settings on real servers: what wins, what is stored together, at once, from files, by commands and by the job."""

import base64
import json
import os
import stat
import subprocess
import sys
import threading
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from taxi_assets.errors import TaxiError
from taxi_assets.operations import set_settings
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.settings import SETTINGS, SettingError
from taxi_assets.resources.settings_store import SettingsStore
from tests.servers import connect, one, rows

TAXI = str(Path(sys.executable).with_name("taxi"))
DEFAULTS = {
    "GCP_MAXIMUM_BYTES_BILLED": 20_000_000_000, "GCP_STAGING_EXPIRATION": timedelta(days=3), "GCP_UPLOAD_GZIP": True,
    "ALERT_MAIL_TO": "nobody",
}  # fmt: skip


@pytest.fixture
def store(postgres):
    return SettingsStore(postgres=postgres)


@pytest.fixture
def url(store):
    return store.postgres.url


def insert(url, name, type, value):
    """As somebody does by hand."""
    with connect(url) as connection:
        connection.execute("INSERT INTO taxi.settings (name, type, value) VALUES (%s, %s, %s)", (name, type, value))


def has_table(url):
    return one(url, "SELECT to_regclass('taxi.settings') IS NOT NULL")


def test_without_a_table(store, url):
    assert {name: value.value for name, value in store.all().items()} == DEFAULTS
    assert {value.origin for value in store.all().values()} == {"default"}
    assert store.get("GCP_DATASET") is None
    assert store.get("mine") is None
    assert store.get("GCP_UPLOAD_GZIP") is True
    with pytest.raises(TaxiError, match="^GCP_DATASET is not set: `taxi settings list` shows what is.$"):
        store.unset("GCP_DATASET")
    assert not has_table(url)  # reading makes nothing
    assert rows(url, "SELECT 1 FROM pg_namespace WHERE nspname = 'taxi'") == []


def test_environment_over_stored_over_default(store, monkeypatch, tmp_path):
    before = datetime.now(timezone.utc) - timedelta(minutes=1)
    stored = store.set("GCP_STAGING_EXPIRATION", "PT2H")
    assert (stored.value, stored.origin, stored.type) == (timedelta(hours=2), "stored", "duration")
    assert before < stored.changed_at < before + timedelta(minutes=2)
    assert store.get("GCP_STAGING_EXPIRATION") == timedelta(hours=2)
    assert store.all()["GCP_STAGING_EXPIRATION"] == stored

    encoded = tmp_path / ".env_encoded"
    encoded.write_text(f"SECRET_GCP_STAGING_EXPIRATION={base64.b64encode(b'P4D').decode()}\n")
    monkeypatch.setenv("TAXI_SECRETS", str(encoded))
    assert store.get("GCP_STAGING_EXPIRATION") == timedelta(days=4)
    monkeypatch.setenv("GCP_STAGING_EXPIRATION", "P5D")
    assert store.get("GCP_STAGING_EXPIRATION") == timedelta(days=5)
    found = store.find("GCP_STAGING_EXPIRATION")
    assert (found.origin, found.changed_at) == ("environment", None)
    assert store.all()["GCP_STAGING_EXPIRATION"] == found  # also where the table is asked for others

    monkeypatch.setenv("GCP_STAGING_EXPIRATION", "")
    monkeypatch.setenv("TAXI_SECRETS", os.devnull)
    store.unset("GCP_STAGING_EXPIRATION")
    assert store.get("GCP_STAGING_EXPIRATION") == timedelta(days=3)
    with pytest.raises(TaxiError) as caught:
        store.unset("GCP_STAGING_EXPIRATION")
    assert str(caught.value) == (
        "GCP_STAGING_EXPIRATION is not stored, P3D is its default: set it to what you want instead."
    )
    monkeypatch.setenv("GCP_STAGING_EXPIRATION", "P5D")
    with pytest.raises(TaxiError) as caught:
        store.unset("GCP_STAGING_EXPIRATION")
    assert str(caught.value) == (
        "GCP_STAGING_EXPIRATION is set by the environment, not stored: take it out of there, or out of .env."
    )


def test_values_are_stored_in_their_canonical_form(store, url):
    assert store.set("GCP_LOCATION", " eu ").value == "EU"
    assert store.set("GCP_MAXIMUM_BYTES_BILLED", "1e9").value == 1_000_000_000
    assert store.set("GCP_UPLOAD_GZIP", "off").value is False
    assert rows(url, 'SELECT name, type, value FROM taxi.settings ORDER BY name COLLATE "C"') == [
        ("GCP_LOCATION", "string", "EU"),
        ("GCP_MAXIMUM_BYTES_BILLED", "number", "1000000000"),
        ("GCP_UPLOAD_GZIP", "boolean", "false"),
    ]
    assert store.get("GCP_UPLOAD_GZIP") is False


def test_values_of_ones_own(store):
    values = {
        "text": ("string", 'it\'s "Zürich" % {x} \\ %s', 'it\'s "Zürich" % {x} \\ %s'),
        "audit_from": ("date", "2020-04-01", date(2020, 4, 1)),
        "json": ("JSON", '{"a": [1, "ü\\u0000"]}', {"a": [1, "ü\0"]}),
        "nothing": ("JSON", "null", None),
        "moment": ("datetime", "2020-04-01T10:00:00Z", datetime(2020, 4, 1, 10, tzinfo=timezone.utc)),
    }
    for name, (type, text, value) in values.items():
        assert store.set(name, text, type).value == value
    found = store.all()
    assert list(found) == [*DEFAULTS, *sorted(values)]
    for name, (type, _, value) in values.items():
        assert (store.get(name), found[name].value, found[name].type) == (value, value, type)
    assert store.find("nothing").text == "null"

    assert store.set("audit_from", "2021-01-01").value == date(2021, 1, 1)  # its type is known now
    with pytest.raises(SettingError, match="^audit_from 'soon' is no date: write it like 2020-04-01.$"):
        store.set("audit_from", "soon")
    assert store.set("audit_from", "soon", "string").type == "string"
    with pytest.raises(SettingError, match="^unknown is no setting: give --type string"):
        store.set("unknown", "1")
    store.unset("audit_from")
    assert store.get("audit_from") is None


def test_the_environment_has_the_type_of_what_is_stored(store, monkeypatch):
    store.set("limit", "5", "number")
    monkeypatch.setenv("limit", "6")
    monkeypatch.setenv("other", "7")
    assert store.get("limit") == 6
    assert store.get("other") is None
    assert "other" not in store.all()


def test_when_it_was_changed(store):
    first = store.set("GCP_DATASET", "trips")
    assert store.set("GCP_DATASET", "trips").changed_at == first.changed_at
    second = store.set("GCP_DATASET", "other")
    assert second.changed_at > first.changed_at
    assert store.find("GCP_DATASET").changed_at == second.changed_at


def test_all_or_nothing(store, url):
    assert [value.name for value in store.set_many({"GCP_DATASET": "trips", "GCP_LOCATION": "EU"})] == [
        "GCP_DATASET", "GCP_LOCATION",
    ]  # fmt: skip
    with pytest.raises(SettingError) as caught:
        store.set_many(
            {"GCP_PROJECT_ID": "my-project", "GCP_DATASET": "a-b", "GCP_CREDS": "hidden", "GCP_BUCKET": "trips-1"}
        )
    assert str(caught.value) == (
        "Nothing was set: GCP_DATASET 'a-b' has something else in it than letters, digits and _: no dash, no dot "
        "(write it like trips); GCP_CREDS is a secret by its name, and settings are kept in plain text (put it into "
        ".env, or in base64 into .env_encoded); GCP_BUCKET is no setting (did you mean GCP_BUCKET_NAME?) (give --type "
        "string where it is a value of your own)."
    )
    assert store.get("GCP_PROJECT_ID") is None
    assert store.get("GCP_DATASET") == "trips"
    with connect(url, autocommit=True) as connection:  # a server that refuses the second of three
        connection.execute("ALTER TABLE taxi.settings ADD CHECK (value <> 'refused')")
    with pytest.raises(TaxiError, match="Postgres refused a statement"):
        store.set_many({"GCP_PROJECT_ID": "my-project", "mine": "refused", "GCP_DATASET": "other"})
    assert store.get("GCP_PROJECT_ID") is None
    assert store.get("GCP_DATASET") == "trips"


def test_many_values_with_types_of_their_own(store):
    given = {
        "GCP_MAXIMUM_BYTES_BILLED": 30_000_000_000, "GCP_UPLOAD_GZIP": False, "GCP_DATASET": 2020, "text": "1",
        "whole": 1, "part": 1.5, "yes": True, "day": date(2020, 4, 1), "moment": datetime(2020, 4, 1, 10),
        "list": [1, {"day": date(2020, 4, 1)}],
    }  # fmt: skip
    assert len(store.set_many(given)) == len(given)
    assert store.set_many(given) == []
    assert [value.name for value in store.set_many(given | {"whole": 2})] == ["whole"]
    found = store.all()
    assert found["GCP_DATASET"].value == "2020"
    assert found["GCP_MAXIMUM_BYTES_BILLED"].value == 30_000_000_000
    assert found["GCP_UPLOAD_GZIP"].value is False
    own = {name: (found[name].type, found[name].value) for name in found if name not in SETTINGS}
    assert own == {
        "text": ("string", "1"), "whole": ("number", 2), "part": ("number", 1.5), "yes": ("boolean", True),
        "day": ("date", date(2020, 4, 1)), "moment": ("datetime", datetime(2020, 4, 1, 10)),
        "list": ("JSON", [1, {"day": "2020-04-01"}]),
    }  # fmt: skip
    for wrong in (None, "", float("nan")):
        with pytest.raises(SettingError):
            store.set_many({"GCP_MAXIMUM_BYTES_BILLED": wrong})
    assert store.set_many({}) == []


def test_require(store, monkeypatch):
    names = ("GCP_PROJECT_ID", "GCP_DATASET", "GCP_UPLOAD_GZIP")
    with pytest.raises(TaxiError) as caught:
        store.require(names)
    assert str(caught.value) == (
        "GCP_PROJECT_ID and GCP_DATASET are not set: "
        "taxi settings set GCP_PROJECT_ID my-project; taxi settings set GCP_DATASET trips."
    )
    store.set("GCP_DATASET", "trips")
    with pytest.raises(TaxiError, match="^GCP_PROJECT_ID is not set: taxi settings set GCP_PROJECT_ID my-project.$"):
        store.require(names)
    monkeypatch.setenv("GCP_PROJECT_ID", "my-project")
    assert store.require(names) == {
        "GCP_PROJECT_ID": "my-project", "GCP_DATASET": "trips", "GCP_UPLOAD_GZIP": True,
    }  # fmt: skip
    with pytest.raises(TaxiError) as caught:
        store.require(["GCP_BUCKET_NAME", "GCP_LOCATION", "mine", "GCP_DATASETS"])
    assert str(caught.value) == (
        "GCP_BUCKET_NAME, GCP_LOCATION, mine and GCP_DATASETS are not set: taxi settings set GCP_BUCKET_NAME "
        "my-project-trips; taxi settings set GCP_LOCATION EU; taxi settings set mine VALUE --type string; "
        "perhaps GCP_DATASET is meant."
    )


def test_no_database_is_asked_for_what_the_environment_answers(monkeypatch):
    store = SettingsStore(postgres=Postgres(url="postgresql://user:hidden@127.0.0.1:9/trips"))
    monkeypatch.setenv("GCP_DATASET", "trips")
    assert store.require(["GCP_DATASET"]) == {"GCP_DATASET": "trips"}
    assert store.get("GCP_DATASET") == "trips"
    with pytest.raises(TaxiError, match="Connection refused"):
        store.get("GCP_LOCATION")


def test_what_is_wrong_in_the_environment(store, monkeypatch):
    monkeypatch.setenv("GCP_DATASET", "a-b")
    monkeypatch.setenv("GCP_STAGING_EXPIRATION", "3 days")
    with pytest.raises(SettingError) as caught:
        store.get("GCP_DATASET")
    assert str(caught.value) == (
        "GCP_DATASET 'a-b' has something else in it than letters, digits and _: no dash, no dot: "
        "change it in the environment, .env or .env_encoded to one like trips."
    )
    assert store.require(["GCP_UPLOAD_GZIP"]) == {"GCP_UPLOAD_GZIP": True}  # which asks for nothing else
    with pytest.raises(
        SettingError, match="^Some settings are wrong: GCP_DATASET 'a-b' .*; GCP_STAGING_EXPIRATION '3 "
    ):
        store.all()
    with pytest.raises(SettingError, match="GCP_DATASET"):
        store.require(["GCP_DATASET", "GCP_PROJECT_ID"])


def test_what_somebody_stored_by_hand(store, url, monkeypatch):
    store.set("GCP_PROJECT_ID", "my-project")
    insert(url, "GCP_DATASET", "string", "a-b")
    insert(url, "mine", "strong", "1")
    insert(url, "GCP_CREDS", "string", "hidden")
    insert(url, "GCP_MAXIMUM_BYTES_BILLED", "string", "30000000000")
    monkeypatch.setenv("GCP_CREDS", "also hidden")
    sentences = {
        "GCP_DATASET": "GCP_DATASET 'a-b' has something else in it than letters, digits and _: no dash, no dot: "
        "taxi settings set GCP_DATASET trips.",
        "mine": "mine is stored with a type that is none: taxi settings set mine VALUE --type string.",
        "GCP_CREDS": "GCP_CREDS is a secret by its name, and settings are kept in plain text: "
        "taxi settings unset GCP_CREDS.",
    }
    for name, sentence in sentences.items():
        with pytest.raises(SettingError) as caught:
            store.get(name)
        assert str(caught.value) == sentence
    with pytest.raises(SettingError) as caught:
        store.all()
    assert "hidden" not in str(caught.value)
    assert all(name in str(caught.value) for name in sentences)
    assert store.get("GCP_MAXIMUM_BYTES_BILLED") == 30_000_000_000
    store.set("GCP_DATASET", "trips")  # as the sentences say
    store.set("mine", "VALUE", "string")
    store.unset("GCP_CREDS")
    assert {"GCP_DATASET", "mine"} < store.all().keys()
    with pytest.raises(SettingError, match="put it into .env"):
        store.get("GCP_CREDS")


def test_at_once_where_there_is_no_table(store, url):
    barrier, errors = threading.Barrier(8), []

    def write(number):
        barrier.wait()
        try:
            store.set_many({f"own_{number}": str(number), "GCP_DATASET": f"trips_{number}", f"also_{number}": number})
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert one(url, "SELECT count(*) FROM taxi.settings") == 17


def test_a_user_who_may_only_read(store, url):
    store.set("GCP_DATASET", "trips")
    with connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE settings_reader")
        try:
            connection.execute("GRANT USAGE ON SCHEMA taxi TO settings_reader")
            connection.execute("GRANT SELECT ON taxi.settings TO settings_reader")
            reader = SettingsStore(
                postgres=Postgres(url=f"{url}{'&' if '?' in url else '?'}options=-crole%3Dsettings_reader")
            )
            assert reader.get("GCP_DATASET") == "trips"
            with pytest.raises(TaxiError, match="Postgres does not allow it"):
                reader.set("GCP_DATASET", "other")
        finally:
            connection.execute("DROP OWNED BY settings_reader")
            connection.execute("DROP ROLE settings_reader")
    assert store.get("GCP_DATASET") == "trips"


def config(settings):
    return {
        "ops": {"set_settings": {"config": {"settings": settings}}},
        "loggers": {"console": {"config": {"log_level": "INFO"}}},
    }


def run_job(store, settings):
    return set_settings.execute_in_process(
        run_config=config(settings), resources={"settings_store": store}, raise_on_error=False
    )


def test_the_job(store, capfd):
    result = run_job(store, {"GCP_DATASET": "trips", "GCP_UPLOAD_GZIP": False, "limit": 5, "part": 1.5})
    assert result.success
    assert [store.get(name) for name in ("GCP_DATASET", "GCP_UPLOAD_GZIP", "limit", "part")] == ["trips", False, 5, 1.5]
    definitions = dg.Definitions(jobs=[set_settings], resources={"settings_store": store})
    dg.Definitions.validate_loadable(definitions)
    job = definitions.resolve_job_def("set_settings")
    capfd.readouterr()
    changes = config({"GCP_DATASET": "other", "limit": 5})
    assert job.execute_in_process(run_config=changes).success
    said = capfd.readouterr().err
    assert "GCP_DATASET (string) is other" in said
    assert "limit (number)" not in said
    assert job.execute_in_process(run_config=changes).success
    assert "Nothing was changed" in capfd.readouterr().err


def test_the_job_with_a_secret(store):
    """It is refused, but the run's configuration has it."""
    result = run_job(store, {"GCP_CREDS": "s3cr3t"})
    [event] = [event for event in result.all_events if event.is_step_failure]
    said = event.step_failure_data.user_failure_data.description
    assert said.startswith("GCP_CREDS is a secret by its name") and "s3cr3t" not in said
    assert said.endswith(" Delete this run, too: Dagster keeps what it was given.")


def test_the_job_with_a_wrong_value(store):
    result = run_job(store, {"GCP_PROJECT_ID": "my-project", "GCP_DATASET": "a-b"})
    assert not result.success
    [event] = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure.description.startswith("GCP_DATASET 'a-b' has something else in it")
    assert store.get("GCP_PROJECT_ID") is None
    again = set_settings.graph.to_job(
        resource_defs={"settings_store": store}, op_retry_policy=dg.RetryPolicy(max_retries=2)
    ).execute_in_process(run_config=config({"GCP_DATASET": "a-b"}), raise_on_error=False)
    assert not [event for event in again.all_events if event.is_step_up_for_retry]  # it would be as wrong again
    assert store.get("GCP_PROJECT_ID") is None


@pytest.fixture
def taxi(password_server, home, folder):
    """The command on a database of its own, as a process."""
    environment = os.environ | {"TAXI_POSTGRES_URL": password_server.make_database(), "COLUMNS": "120"}

    def call(*arguments, **settings):
        return subprocess.run(
            [TAXI, *arguments], env=environment | settings, cwd=folder, text=True, capture_output=True, timeout=120
        )

    call.url = environment["TAXI_POSTGRES_URL"]
    call.start = lambda *arguments: subprocess.Popen(
        [TAXI, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    return call


def done(process, code=0):
    assert process.returncode == code, process.stdout + process.stderr
    assert "Traceback" not in process.stderr
    return process.stdout if code == 0 else process.stderr


def cells(line):
    return [cell.strip() for cell in line.strip("│ ").split("│")]


def test_set_get_list_unset(taxi):
    assert done(taxi("settings", "set", "GCP_LOCATION", "eu")) == "GCP_LOCATION is EU.\n"
    assert done(taxi("settings", "get", "GCP_LOCATION")) == "EU\n"
    assert done(taxi("settings", "set", "offset", "-5", "--type", "number")) == "offset is -5.\n"
    assert (
        done(taxi("settings", "set", "markup", '["[bold]x[/bold]"]', "--type", "json"))
        == 'markup is ["[bold]x[/bold]"].\n'
    )
    both = taxi("settings", "set", "GCP_DATASET", "trips", GCP_DATASET="other")
    assert done(both) == "GCP_DATASET is trips.\n"
    assert both.stderr == "The environment sets GCP_DATASET too, and wins: take it out of there, or out of .env.\n"

    table = done(taxi("settings", "list", GCP_PROJECT_ID="my-project"))
    lines = {cells(line)[0]: cells(line)[1:] for line in table.splitlines() if line.startswith("│")}
    assert list(lines) == [*SETTINGS, "markup", "offset"]
    today = f"{datetime.now(timezone.utc):%Y-%m-}"
    assert lines["GCP_PROJECT_ID"] == ["string", "my-project", "environment"]
    assert lines["GCP_LOCATION"][:2] == ["string", "EU"]
    assert lines["GCP_LOCATION"][2].startswith(f"stored {today}") and lines["GCP_LOCATION"][2].endswith("UTC")
    assert lines["GCP_BUCKET_NAME"] == ["string", "", "not set"]
    assert table.splitlines()[-1] == ("GCP_BUCKET_NAME is not set: taxi settings set GCP_BUCKET_NAME my-project-trips")
    assert table.count("is not set: taxi settings set") == 1
    assert lines["GCP_STAGING_EXPIRATION"] == ["duration", "P3D", "default"]
    assert lines["GCP_MAXIMUM_BYTES_BILLED"] == ["number", "20000000000", "default"]
    assert lines["GCP_UPLOAD_GZIP"] == ["boolean", "true", "default"]
    assert lines["markup"][:2] == ["JSON", '["[bold]x[/bold]"]']

    listed = {row["name"]: row for row in json.loads(done(taxi("settings", "list", "--json")))}
    assert list(listed) == [*SETTINGS, "markup", "offset"]
    assert listed["GCP_PROJECT_ID"] | {"description": ""} == {
        "name": "GCP_PROJECT_ID", "type": "string", "value": None, "origin": None, "changed_at": None,
        "description": "",
    }  # fmt: skip
    assert (listed["offset"]["value"], listed["offset"]["origin"]) == (-5, "stored")
    assert datetime.fromisoformat(listed["offset"]["changed_at"]).tzinfo
    assert listed["markup"]["value"] == ["[bold]x[/bold]"]
    assert listed["GCP_STAGING_EXPIRATION"]["value"] == "P3D"
    assert listed["GCP_UPLOAD_GZIP"]["value"] is True

    assert done(taxi("settings", "unset", "GCP_LOCATION")) == "GCP_LOCATION is not stored any more.\n"
    assert done(taxi("settings", "unset", "GCP_LOCATION"), 1).startswith("taxi: GCP_LOCATION is not set: ")
    assert done(taxi("settings", "get", "GCP_LOCATION"), 1) == (
        "taxi: GCP_LOCATION is not set: taxi settings set GCP_LOCATION EU.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["set", "GCP_DATASET", "a-b"], 2, "Error: GCP_DATASET 'a-b' has something else in it than letters"),
        (["set", "GCP_DATASETS", "trips"], 2, "did you mean GCP_DATASET?"),
        (["set", "mine", "1"], 2, "mine is no setting: give --type string"),
        (["set", "mine", "1", "--type", "text"], 2, "'text' is not one of"),
        (["set", "mine", "one", "--type", "number"], 2, "mine 'one' is no number: write it like 1.5."),
        (["set", "GCP_CREDS", "s3cr3ts3cr3t"], 2, "GCP_CREDS is a secret by its name"),
        (["set", "TAXI_SOURCE", "sample"], 2, "TAXI_SOURCE is read from the environment alone"),
        (["set", "GCP_DATASET"], 2, "Missing argument 'VALUE'"),
        (["set", "GCP_DATASET", "trips", "--wrong"], 2, "Got unexpected extra argument"),
        (["get", "GCP_DATASET"], 1, "taxi: GCP_DATASET is not set: taxi settings set GCP_DATASET trips."),
        (["get", "GCP_CREDS"], 1, "taxi: GCP_CREDS is a secret by its name"),
        (["import", "/nowhere"], 2, "File '/nowhere' does not exist"),
        (["nonsense"], 2, "No such command 'nonsense'"),
    ],
)
def test_wrong_usage(taxi, arguments, code, said):
    result = taxi("settings", *arguments, GCP_CREDS="s3cr3ts3cr3t")
    message = done(result, code)
    assert " ".join(said.split()) in " ".join(message.split())
    assert "s3cr3ts3cr3t" not in result.stdout + result.stderr
    assert not has_table(taxi.url)


@pytest.mark.parametrize(
    "arguments", [["set", "GCP_DATASET", "trips"], ["get", "GCP_DATASET"], ["list"], ["unset", "x"]]
)
def test_a_database_that_is_not_there(taxi, arguments):
    said = done(taxi("settings", *arguments, TAXI_POSTGRES_URL="postgresql://user:hidden@127.0.0.1:9/trips"), 1)
    assert len(said.strip().splitlines()) == 1
    assert "Connection refused" in said
    assert "hidden" not in said


def test_two_processes_where_there_is_no_table(taxi):
    processes = [
        taxi.start("settings", "set", name, value)
        for name, value in (("GCP_DATASET", "trips"), ("GCP_LOCATION", "EU"), ("GCP_PROJECT_ID", "my-project"))
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert one(taxi.url, "SELECT count(*) FROM taxi.settings") == 3


FILES = {
    "settings.json": '{"GCP_DATASET": "trips", "GCP_MAXIMUM_BYTES_BILLED": 3e10, "limit": 5, "own": {"a": [true]}}',
    "settings.yaml": "GCP_DATASET: trips\nGCP_MAXIMUM_BYTES_BILLED: 30_000_000_000\nlimit: 5\nown: {a: [yes]}\n",
    "settings.env": "# mine\n\nexport GCP_DATASET='trips'\nGCP_MAXIMUM_BYTES_BILLED=30000000000 # 30 GB\n"
    'limit=5\nown="{\\"a\\": [true]}"\n',
}


@pytest.mark.parametrize("name", FILES)
def test_import(taxi, tmp_path, name):
    file = tmp_path / name
    file.write_text(FILES[name])
    assert done(taxi("settings", "import", str(file))) == (
        "4 set, 4 of them changed: GCP_DATASET, GCP_MAXIMUM_BYTES_BILLED, limit, own.\n"
    )
    typed = not name.endswith(".env")  # which has nothing but text
    assert rows(taxi.url, 'SELECT name, type, value FROM taxi.settings ORDER BY name COLLATE "C"') == [
        ("GCP_DATASET", "string", "trips"),
        ("GCP_MAXIMUM_BYTES_BILLED", "number", "30000000000"),
        ("limit", "number" if typed else "string", "5"),
        ("own", "JSON" if typed else "string", '{"a": [true]}'),
    ]
    file.write_text(FILES[name].replace("trips", "other"))
    assert done(taxi("settings", "import", str(file))) == "4 set, 1 of them changed: GCP_DATASET.\n"
    assert done(taxi("settings", "import", str(file))) == "4 set, 0 of them changed.\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "x.json",
            '{"GCP_DATASET": "trips",\n"s3cr3ts3cr3t}',
            "{file}, line 2, is not written as JSON with names and values",
        ),
        ("x.json", '["s3cr3ts3cr3t"]', "{file} is not written as JSON with names and values"),
        (
            "x.yaml",
            "GCP_DATASET: trips\n a: [s3cr3ts3cr3t",
            "{file}, line 2, is not written as YAML with names and values",
        ),
        (
            "x.yml",
            "GCP_DATASET: trips\nx: !!python/object:os.system {}",
            "{file}, line 2, is not written as YAML with names and",
        ),
        ("x.yaml", "1: s3cr3ts3cr3t", "{file} is not written as YAML with names and values"),
        ("x.yaml", "", "{file} is not written as YAML with names and values"),
        ("x.yaml", "a: &a [*a]", "{file} is not written as YAML with names and values"),
        ("x.yaml", "day: 2020-13-45", "{file} is not written as YAML with names and values"),
        ("x.env", "GCP_DATASET=trips\ns3cr3ts3cr3t\n", "{file}, line 2, is not written as lines NAME=value"),
        ("x.env", "GCP_DATASET=trips\n\nFOO='s3cr3ts3cr3t\n", "{file}, line 3, is not written as lines NAME=value"),
        (
            "x.env",
            "GCP_PROJECT_ID=my-project\nGCP_DATASET=a-b\nGCP_CREDS=s3cr3ts3cr3t\n",
            "Nothing was set: GCP_DATASET",
        ),
        ("x.yaml", "GCP_PROJECT_ID: my-project\nGCP_DATASET:\n", "GCP_DATASET is empty: write it like trips."),
        ("x.env", b"GCP_DATASET=\xff", "{file} is not written as lines NAME=value"),
    ],
)
def test_import_of_what_is_wrong(taxi, tmp_path, name, content, said):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = done(taxi("settings", "import", str(file)), 1)
    assert message.startswith(f"taxi: {said.format(file=file)}")
    assert len(message.splitlines()) == 1
    assert "s3cr3t" not in message
    assert not has_table(taxi.url)


@pytest.fixture(scope="module")
def account():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account", "project_id": "my-project", "private_key": key.decode(),
        "client_email": "loader@my-project.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token",
    }  # fmt: skip


def test_encode(taxi, tmp_path, account):
    file, output = tmp_path / "account.json", tmp_path / ".env_encoded"
    file.write_text(json.dumps(account))
    where = {"TAXI_SECRETS": str(output)}
    first = done(taxi("secrets", "encode", str(file), **where))
    assert first.splitlines() == [
        f"SECRET_GCP_CREDS is in {output}.",
        "Base64 hides nothing: whoever reads that file has the key, so keep it to yourself and out of git.",
    ]
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    again = done(taxi("secrets", "encode", str(file), "--output", str(output)))
    assert again.splitlines()[0] == f"SECRET_GCP_CREDS is in {output}, in the place of the one before."
    done(taxi("secrets", "encode", str(file), "--name", "GCP_CREDS_2", **where))
    names = [line.partition("=")[0] for line in output.read_text().splitlines()]
    assert names == ["SECRET_GCP_CREDS", "SECRET_GCP_CREDS_2"]
    script = (
        "from taxi_assets.resources.secrets import secret, service_account; "
        "print(service_account(secret('GCP_CREDS'))['client_email'])"
    )
    used = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | where, text=True, capture_output=True, timeout=60
    )
    assert used.stdout == f"{account['client_email']}\n", used.stderr


@pytest.mark.parametrize("name", ["SECRET_GCP_CREDS", "a b", "", "1st"])
def test_encode_under_a_wrong_name(taxi, tmp_path, account, name):
    file, output = tmp_path / "account.json", tmp_path / "out"
    file.write_text(json.dumps(account))
    assert "--name has letters, digits and _" in done(
        taxi("secrets", "encode", str(file), "--name", name, "--output", str(output)), 2
    )
    assert not output.exists()


def test_encode_of_what_is_no_service_account(taxi, tmp_path, account):
    file, output = tmp_path / "account.json", tmp_path / "out"
    file.write_text(json.dumps({**account, "type": "authorized_user"}))
    said = done(taxi("secrets", "encode", str(file), "--output", str(output)), 1)
    assert said.startswith(f"taxi: {file} is the login of a person, not a service account: download a key")
    assert len(said.splitlines()) == 1
    assert account["private_key"][30:60] not in said
    assert not output.exists()
    assert "does not exist" in done(taxi("secrets", "encode", str(tmp_path / "none"), "--output", str(output)), 2)


@pytest.mark.parametrize(
    "command",
    ["settings", "settings set", "settings get", "settings list", "settings unset", "settings import", "secrets",
     "secrets encode"],
)  # fmt: skip
def test_help_has_examples(taxi, command):
    said = done(taxi(*command.split(), "--help"))
    assert any(line.strip().startswith(f"taxi {command} ") for line in said.splitlines()), "each on a line of its own"


def test_loading_the_definitions_imports_nothing_heavy():
    heavy = ("pandas", "numpy", "psycopg", "google", "cryptography")
    script = (
        "import sys, dagster; before = set(sys.modules); import taxi_assets.operations, taxi_assets.cli_settings; "
        f"print(sorted({{name.partition('.')[0] for name in set(sys.modules) - before}} & set({heavy})))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert loaded.stdout.strip() == "[]", loaded.stderr
