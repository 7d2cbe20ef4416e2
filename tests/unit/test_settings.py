"""What a setting may be called, which values it may have, and what is said where it may not."""

import json
import math
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxi_assets.resources.settings import (
    EXAMPLES,
    FORMS,
    LOCATIONS,
    SETTINGS,
    TYPES,
    SettingError,
    parse,
    setting,
    similar,
    type_of,
    value_of,
    written,
)

UTC = timezone.utc
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def refused(name, text, type=None, place="given"):
    with pytest.raises(SettingError) as caught:
        value_of(name, type or SETTINGS[name].type, text, place)
    return str(caught.value)


@pytest.mark.parametrize("declared", SETTINGS.values(), ids=lambda declared: declared.name)
def test_examples_and_defaults_keep_their_rules(declared):
    value = value_of(declared.name, declared.type, declared.example)
    assert written(declared.type, value) == declared.example
    if declared.default is not None:
        text = written(declared.type, declared.default)
        assert value_of(declared.name, declared.type, text) == declared.default
    assert declared.description.endswith(".")


def test_defaults():
    assert {name: declared.default for name, declared in SETTINGS.items()} == {
        "GCP_PROJECT_ID": None,
        "GCP_LOCATION": None,
        "GCP_BUCKET_NAME": None,
        "GCP_DATASET": None,
        "GCP_MAXIMUM_BYTES_BILLED": 20_000_000_000,
        "GCP_STAGING_EXPIRATION": timedelta(days=3),
        "GCP_UPLOAD_GZIP": True,
        "ALERT_MAIL_TO": "nobody",
    }


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [
        ("string", "any Thing 1", "any Thing 1"),
        ("number", "20000000000", 20_000_000_000),
        ("number", "20_000_000_000", 20_000_000_000),
        ("number", "2e10", 20_000_000_000),
        ("number", "-1.0", -1),
        ("number", "0.1", 0.1),
        ("number", "123456789012345678901234567890", 123456789012345678901234567890),
        ("boolean", "true", True),
        ("boolean", "False", False),
        ("boolean", "YES", True),
        ("boolean", "no", False),
        ("boolean", "on", True),
        ("boolean", "off", False),
        ("boolean", "1", True),
        ("boolean", "0", False),
        ("date", "2020-04-01", date(2020, 4, 1)),
        ("datetime", "2020-04-01T10:00", datetime(2020, 4, 1, 10)),
        ("datetime", "2020-04-01 10:00:30Z", datetime(2020, 4, 1, 10, 0, 30, tzinfo=UTC)),
        (
            "datetime",
            "2020-04-01T10:00:00+02:00",
            datetime(2020, 4, 1, 10, tzinfo=timezone(timedelta(hours=2))),
        ),
        ("duration", "P3D", timedelta(days=3)),
        ("duration", "PT90M", timedelta(minutes=90)),
        ("duration", "P1W", timedelta(days=7)),
        ("duration", "P1DT2H3M4.5S", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("duration", "-PT1H", timedelta(hours=-1)),
        ("JSON", '{"a": [1, null, "ü"]}', {"a": [1, None, "ü"]}),
        ("JSON", "null", None),
    ],
)
def test_types(type, text, value):
    parsed = parse(type, text)
    assert parsed == value
    assert parsed.__class__ is value.__class__
    assert parse(type, written(type, parsed)) == value


@pytest.mark.parametrize(
    ("type", "text"),
    [
        ("number", "ten"), ("number", "nan"), ("number", "inf"), ("number", "-Infinity"), ("number", "1e400"),
        ("number", "1,000"), ("number", "1__0"), ("number", "٣"), ("number", "0x10"), ("number", "1."),
        ("number", ".5"), ("number", "1 2"),
        ("boolean", "t"), ("boolean", "y"), ("boolean", "2"), ("boolean", "tru"),
        ("date", "20200401"), ("date", "2020-4-1"), ("date", "2020-02-30"), ("date", "1585699200"),
        ("date", "2020-04-01T00:00:00"), ("date", "01.04.2020"), ("date", "2020-W14-3"),
        ("datetime", "2020-04-01"), ("datetime", "1585699200"), ("datetime", "2020-04-01T25:00"),
        ("datetime", "2020-04-01T10:00 Europe/Berlin"), ("datetime", "yesterday"),
        ("duration", "P"), ("duration", "PT"), ("duration", "P1DT"), ("duration", "3 days"), ("duration", "1:00:00"),
        ("duration", "259200"), ("duration", "P1Y"), ("duration", "P1M"), ("duration", "p3d"), ("duration", "P3H"),
        ("duration", "P99999999999D"),
        ("JSON", "{"), ("JSON", "NaN"), ("JSON", '{"a": Infinity}'), ("JSON", "1e400"), ("JSON", "text"),
        ("JSON", "[" * 100_000),
    ],
)  # fmt: skip
def test_texts_that_are_no_value_of_the_type(type, text):
    with pytest.raises(ValueError, match=f"^is no {type}$"):
        parse(type, text)
    said = refused("mine", text, type)
    assert said.startswith("mine ")
    assert said.endswith(f"is no {type}: write it like {EXAMPLES[type]}.")


def test_every_type_has_an_example_and_a_form():
    assert set(EXAMPLES) == set(TYPES)
    assert set(FORMS) == set(TYPES) - {"string", "JSON"}
    for type, text in EXAMPLES.items():
        assert written(type, parse(type, text)) == text


VALUES = {
    "string": TEXT,
    "number": st.integers(-(10**300), 10**300)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer()),
    "boolean": st.booleans(),
    "date": st.dates(),
    "datetime": st.datetimes()
    | st.datetimes(timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))),
    "duration": st.timedeltas(timedelta(days=-99_999_999), timedelta(days=99_999_999)),
    "JSON": st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
        lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
        max_leaves=10,
    ),
}


@pytest.mark.parametrize("type", TYPES)
@given(data=st.data())
def test_what_is_written_is_read_again(type, data):
    value = data.draw(VALUES[type])
    text = written(type, value)
    again = parse(type, text)
    assert again == value
    assert again.__class__ is value.__class__
    if type == "datetime":
        assert again.utcoffset() == value.utcoffset()
    assert written(type, again) == text


@given(st.sampled_from(TYPES), TEXT)
def test_any_text_is_a_value_or_refused_in_one_sentence(type, text):
    try:
        value = value_of("mine", type, text)
    except SettingError as error:
        said = str(error)
        assert "\n" not in said and said.endswith(".")
    else:
        assert value_of("mine", type, written(type, value)) == value
        assert not (isinstance(value, float) and not math.isfinite(value))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("GCP_PROJECT_ID", "abcdef", "abcdef"),
        ("GCP_PROJECT_ID", "a" * 30, "a" * 30),
        ("GCP_PROJECT_ID", " my-project-1 ", "my-project-1"),
        ("GCP_PROJECT_ID", "example.com:my-project", "example.com:my-project"),
        ("GCP_LOCATION", "eu", "EU"),
        ("GCP_LOCATION", "Us", "US"),
        ("GCP_LOCATION", "EUROPE-WEST3", "europe-west3"),
        ("GCP_BUCKET_NAME", "abc", "abc"),
        ("GCP_BUCKET_NAME", "1-my_trips.9", "1-my_trips.9"),
        ("GCP_BUCKET_NAME", "a" * 63, "a" * 63),
        ("GCP_BUCKET_NAME", ".".join(["a" * 63] * 3), ".".join(["a" * 63] * 3)),
        ("GCP_BUCKET_NAME", "1.2.3", "1.2.3"),
        ("GCP_BUCKET_NAME", "my-goog", "my-goog"),
        ("GCP_DATASET", "Trips_2020", "Trips_2020"),
        ("GCP_DATASET", "a" * 1024, "a" * 1024),
        ("GCP_MAXIMUM_BYTES_BILLED", "10485760", 10_485_760),
        ("GCP_MAXIMUM_BYTES_BILLED", "1e9", 1_000_000_000),
        ("GCP_STAGING_EXPIRATION", "PT1H", timedelta(hours=1)),
        ("GCP_UPLOAD_GZIP", "off", False),
    ],
)
def test_values_that_keep_the_rules(name, text, value):
    assert value_of(name, SETTINGS[name].type, text) == value


NO_PROJECT = "is no project id (6 to 30 lower-case letters, digits and dashes, the first a letter, the last no dash)"
BUCKET_CHARACTERS = "has something else in it than lower-case letters, digits and - _ ."
DATASET_CHARACTERS = "has something else in it than letters, digits and _: no dash, no dot"


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("GCP_PROJECT_ID", "abcde", NO_PROJECT),
        ("GCP_PROJECT_ID", "a" * 31, NO_PROJECT),
        ("GCP_PROJECT_ID", "My-Project", NO_PROJECT),
        ("GCP_PROJECT_ID", "1-project", NO_PROJECT),
        ("GCP_PROJECT_ID", "project-", NO_PROJECT),
        ("GCP_PROJECT_ID", "my_project", NO_PROJECT),
        ("GCP_PROJECT_ID", "my project", NO_PROJECT),
        ("GCP_PROJECT_ID", "123456789012", "is the number of a project, not its id"),
        ("GCP_PROJECT_ID", "nodomain:my-project", "has a : after what is no domain"),
        ("GCP_PROJECT_ID", "example.com:proj", NO_PROJECT),
        ("GCP_LOCATION", "us-centrall1", "is no location of BigQuery (did you mean us-central1?)"),
        ("GCP_LOCATION", "europe-west33", "is no location of BigQuery (did you mean europe-west3?)"),
        ("GCP_LOCATION", "Mars", "is no location of BigQuery"),
        ("GCP_BUCKET_NAME", "gs://trips", "begins with gs://, which is no part of a bucket's name"),
        ("GCP_BUCKET_NAME", "Trips", BUCKET_CHARACTERS),
        ("GCP_BUCKET_NAME", "my trips", BUCKET_CHARACTERS),
        ("GCP_BUCKET_NAME", "trips/2020", BUCKET_CHARACTERS),
        ("GCP_BUCKET_NAME", "münchen", BUCKET_CHARACTERS),
        ("GCP_BUCKET_NAME", "ab", "is shorter than 3 characters"),
        ("GCP_BUCKET_NAME", "a" * 64, "is longer than 63 characters"),
        ("GCP_BUCKET_NAME", ".".join(["a" * 55] * 4), "is longer than 222 characters"),
        ("GCP_BUCKET_NAME", "-trips", "does not begin and end with a letter or a digit"),
        ("GCP_BUCKET_NAME", "trips_", "does not begin and end with a letter or a digit"),
        ("GCP_BUCKET_NAME", ".trips", "does not begin and end with a letter or a digit"),
        ("GCP_BUCKET_NAME", "my..trips", "has two dots next to each other"),
        ("GCP_BUCKET_NAME", f"{'a' * 64}.b", "has more than 63 characters between two dots"),
        ("GCP_BUCKET_NAME", "192.168.5.4", "is an IP address"),
        ("GCP_BUCKET_NAME", "goog-trips", "begins with goog, which Google keeps for itself"),
        ("GCP_BUCKET_NAME", "my-google-trips", "has google in it, which Google keeps for itself"),
        ("GCP_BUCKET_NAME", "my-g00gle-trips", "has google in it, which Google keeps for itself"),
        ("GCP_DATASET", "my-trips", DATASET_CHARACTERS),
        ("GCP_DATASET", "project.trips", DATASET_CHARACTERS),
        ("GCP_DATASET", "trips\n", None),
        ("GCP_DATASET", "a\nb", DATASET_CHARACTERS),
        ("GCP_DATASET", "zürich", DATASET_CHARACTERS),
        ("GCP_DATASET", "a" * 1025, "is longer than 1024 characters"),
        ("GCP_MAXIMUM_BYTES_BILLED", "10485759", "is below 10485760, which BigQuery bills at least"),
        ("GCP_MAXIMUM_BYTES_BILLED", "-1", "is below 10485760, which BigQuery bills at least"),
        ("GCP_MAXIMUM_BYTES_BILLED", "20000000.5", "is no whole number"),
        ("GCP_MAXIMUM_BYTES_BILLED", "1e19", "is more than BigQuery can count"),
        ("GCP_MAXIMUM_BYTES_BILLED", "20 GB", "is no number"),
        ("GCP_STAGING_EXPIRATION", "PT59M", "is shorter than PT1H, an hour"),
        ("GCP_STAGING_EXPIRATION", "-P3D", "is shorter than PT1H, an hour"),
        ("GCP_STAGING_EXPIRATION", "3", "is no duration"),
        ("GCP_UPLOAD_GZIP", "gzip", "is no boolean"),
    ],
)
def test_values_that_break_a_rule(name, text, what):
    if what is None:
        assert value_of(name, SETTINGS[name].type, text) == text.strip()  # around a value there is nothing to mean
        return
    shown = f" '{text}'" if len(text) <= 80 and "\n" not in text else ""
    assert refused(name, text) == f"{name}{shown} {what}: write it like {SETTINGS[name].example}."


def test_every_location_is_one():
    assert len(set(LOCATIONS)) == len(LOCATIONS) == 45
    for location in LOCATIONS:
        for text in (location, location.lower(), location.upper()):
            assert value_of("GCP_LOCATION", "string", text) == location


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "mine is empty"),
        (" \n", "mine is empty"),
        ("a\0b", "mine has a byte in it that no text has"),
        ("a\udcff", "mine is not in UTF-8"),
    ],
)
def test_texts_that_no_type_has(text, what):
    assert refused("mine", text, "string") == f"{what}: write it like trips."
    assert refused("mine", '"\\ud800"', "JSON").startswith("mine '\"\\ud800\"' is not in UTF-8: ")


def test_the_mend_is_said_for_the_place_where_the_value_stands():
    assert refused("GCP_DATASET", "a-b", place="environment").endswith(
        "no dash, no dot: change it in the environment, .env or .env_encoded to one like trips."
    )
    assert refused("GCP_DATASET", "a-b", place="stored").endswith("no dot: taxi settings set GCP_DATASET trips.")


def test_a_value_that_may_be_a_file_is_not_shown():
    key = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj" * 3
    for text in (key, f"-----BEGIN-----\n{key[:40]}"):
        assert "MIIE" not in refused("GCP_PROJECT_ID", text)


@pytest.mark.parametrize(
    "name",
    ["GCP_CREDS", "gcp_creds", "SECRET_GCP_DATASET", "secret_x", "MY_PASSWORD", "api_token", "ApiKey", "KEY",
     "GOOGLE_APPLICATION_CREDENTIALS"],
)  # fmt: skip
def test_secrets_are_no_settings(name):
    for type in (None, "string"):
        with pytest.raises(SettingError) as caught:
            type_of(name, type, None)
        assert str(caught.value) == (
            f"{name} is a secret by its name, and settings are kept in plain text: "
            "put it into .env, or in base64 into .env_encoded."
        )


@pytest.mark.parametrize(
    "name",
    ["TAXI_POSTGRES_URL", "DAGSTER_POSTGRES_URL", "TAXI_HOME", "TAXI_SOURCE", "TAXI_TIMEZONE", "TAXI_SECRETS",
     "STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST", "taxi_home"],
)  # fmt: skip
def test_what_is_read_before_there_are_settings_is_none(name):
    with pytest.raises(SettingError, match=f"^{name} is read from the environment alone: put it there, or into .env.$"):
        type_of(name, "string", "string")


def test_types_of_names():
    assert type_of("GCP_STAGING_EXPIRATION", None, None) == "duration"
    assert type_of("GCP_STAGING_EXPIRATION", "duration", "string") == "duration"
    assert type_of("mine", "date", None) == "date"
    assert type_of("mine", None, "number") == "number"
    assert type_of("mine", "date", "number") == "date"
    assert type_of("x" * 128, "string", None) == "string"
    assert type_of("my.own-value_1", "JSON", None) == "JSON"


@pytest.mark.parametrize(
    ("name", "type", "said"),
    [
        ("GCP_DATASET", "number", "GCP_DATASET is no number but a string: leave --type out."),
        (
            "GCP_DATASETS", None,
            "GCP_DATASETS is no setting (did you mean GCP_DATASET?): "
            "give --type string where it is a value of your own.",
        ),
        (
            "gcp_dataset", None,
            "gcp_dataset is no setting (did you mean GCP_DATASET?): "
            "give --type string where it is a value of your own.",
        ),
        ("audit", None, "audit is no setting: give --type string where it is a value of your own."),
        *(
            (
                name, "string",
                "A setting's name is something else than a letter and then up to 127 letters, digits and _ . -: "
                "write it like GCP_DATASET.",
            )
            for name in ("", "1st", "_x", "a b", "a=b", "ä", "x" * 129, "a\n")
        ),
    ],
)  # fmt: skip
def test_names_that_cannot_be_set(name, type, said):
    with pytest.raises(SettingError) as caught:
        type_of(name, type, None)
    assert str(caught.value) == said


def test_similar():
    assert similar("GCP_BUCKET") == "GCP_BUCKET_NAME"
    assert similar("gcp_project-id") == "GCP_PROJECT_ID"
    assert similar("audit") is None


def test_the_environment_is_read_when_it_is_asked(monkeypatch):
    assert setting("GCP_DATASET") is None
    monkeypatch.setenv("GCP_DATASET", "  trips ")
    assert setting("GCP_DATASET") == "trips"
    monkeypatch.setenv("GCP_DATASET", "  ")
    assert setting("GCP_DATASET") is None


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "PT0S"),
        (timedelta(days=3), "P3D"),
        (timedelta(days=400), "P400D"),
        (timedelta(minutes=90), "PT1H30M"),
        (timedelta(days=1, seconds=1, microseconds=500_000), "P1DT1.5S"),
        (timedelta(days=-1, hours=23), "-PT1H"),
    ],
)
def test_durations_as_they_are_written(duration, text):
    assert written("duration", duration) == text


def test_json_is_kept_as_people_write_it():
    assert written("JSON", {"city": "Zürich"}) == '{"city": "Zürich"}'
    assert json.loads(written("JSON", [1, True, None])) == [1, True, None]
