"""Settings of one installation: what each is called, what type and rule it has, and how it is read, when it is used.

Only what a setting is belongs here; where people keep its value is in `settings_store`, what they hide in `secrets`.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from taxi_assets.errors import TaxiError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

PROJECT = Path(__file__).resolve().parents[2]

Type = Literal["string", "number", "boolean", "date", "datetime", "duration", "JSON"]
TYPES: tuple[Type, ...] = get_args(Type)
EXAMPLES: Mapping[Type, str] = {
    "string": "trips", "number": "1.5", "boolean": "true", "date": "2020-04-01", "datetime": "2020-04-01T10:00:00Z",
    "duration": "P3D", "JSON": '{"vendors": [1, 2]}',
}  # fmt: skip
# pydantic reads more than these: "3 days", seconds since 1970, a year as 365 days.
FORMS: Mapping[Type, str] = {
    "number": r"[+-]?\d+(_\d+)*(\.\d+)?([eE][+-]?\d+)?",
    "boolean": r"(?i:true|false|yes|no|on|off|1|0)",
    "date": r"\d{4}-\d\d-\d\d",
    "datetime": r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*",
    "duration": r"-?P(?=.)(\d+W)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?",
}
NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,127}"
SECRETS = r"(?i)GCP_CREDS|SECRET_.*|.*(PASSWORD|TOKEN|KEY|CREDENTIAL|WEBHOOK|SMTP_URL).*"
OF_THE_ENVIRONMENT = {
    "TAXI_POSTGRES_URL", "DAGSTER_POSTGRES_URL", "TAXI_HOME", "TAXI_SOURCE", "TAXI_TIMEZONE", "TAXI_SECRETS",
    "STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST", "TAXI_LOGS_BUCKET", "TAXI_URL",
}  # fmt: skip
MENDS = {
    "given": "write it like {example}",
    "environment": "change it in the environment, .env or .env_encoded to one like {example}",
    "stored": "taxi settings set {name} {example}",
}
NOBODY = "nobody"  # in the place of a mail address
LONGEST_SHOWN = 80  # characters of a wrong value; what is longer may be a file with a key in it

# https://docs.cloud.google.com/bigquery/docs/locations
LOCATIONS = (
    "US", "EU", "us-central1", "us-east1", "us-east4", "us-east5", "us-south1", "us-west1", "us-west2", "us-west3",
    "us-west4", "northamerica-northeast1", "northamerica-northeast2", "northamerica-south1", "southamerica-east1",
    "southamerica-west1", "europe-central2", "europe-north1", "europe-north2", "europe-southwest1", "europe-west1",
    "europe-west2", "europe-west3", "europe-west4", "europe-west6", "europe-west8", "europe-west9", "europe-west10",
    "europe-west12", "asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2", "asia-northeast3", "asia-south1",
    "asia-south2", "asia-southeast1", "asia-southeast2", "asia-southeast3", "australia-southeast1",
    "australia-southeast2", "me-central1", "me-central2", "me-west1", "africa-south1",
)  # fmt: skip


class SettingError(TaxiError):
    """A name or a value that a setting may not have."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(f"{what}: {mend}.")
        self.what, self.mend = what, mend


@dataclass(frozen=True)
class Setting:
    """One setting that this project reads.

    Attributes:
        default: None where somebody has to set it.
        check: returns the value as it is kept; ValueError says what is wrong with it, without its name.
    """

    name: str
    type: Type
    default: Any
    description: str
    example: str
    check: Callable[[Any], Any]


def setting(name: str) -> str | None:
    """The value of an environment variable, else what `.env_encoded` keeps under its name, else None."""
    from taxi_assets.resources.secrets import secret

    return secret(name)


def taxi_home() -> Path:
    """The folder that keeps the state of this installation: `TAXI_HOME`, or `.taxi` beside pyproject.toml."""
    home = setting("TAXI_HOME")
    return Path(home).expanduser().resolve() if home else PROJECT / ".taxi"


def parse(type: Type, text: str) -> Any:
    """The value that a text stands for: str, int, float, bool, date, datetime, timedelta, or what JSON can hold.

    Raises:
        ValueError: saying what is wrong, without the text.
    """
    if type == "string":
        return text
    try:
        if type == "JSON":
            value = json.loads(text)
            json.dumps(value, allow_nan=False)  # Python reads NaN, and 1e400 as infinity; others do not
            return value
        if not re.fullmatch(FORMS[type], text, re.ASCII):
            raise ValueError
        value = _adapter(type).validate_strings(text)
        return _number(value) if type == "number" else value
    except (ValueError, RecursionError):
        raise ValueError(f"is no {type}") from None


def written(type: Type, value: Any) -> str:
    """The text that stands for a value: what `parse` makes the same value of."""
    if type == "string":
        return str(value)
    if type == "JSON":
        return json.dumps(value, ensure_ascii=False)
    if type in ("number", "boolean"):
        return str(value).lower()
    return _iso(value) if type == "duration" else str(_adapter(type).dump_python(value, mode="json"))


def _iso(duration: timedelta) -> str:
    """A duration without years, which pydantic would write for every 365 days."""
    rest, microseconds = divmod(abs(duration) // timedelta(microseconds=1), 1_000_000)
    minutes, seconds = divmod(rest, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    fraction = f".{microseconds:06}".rstrip("0") if microseconds else ""
    time = "".join(f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M")) if number)
    time += f"{seconds}{fraction}S" if seconds or fraction else ""
    text = (f"{days}D" if days else "") + (f"T{time}" if time else "")
    return f"{'-' if duration < timedelta(0) else ''}P{text or 'T0S'}"


@cache
def _adapter(type: Type) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    classes = {"number": Decimal, "boolean": bool, "date": date, "datetime": datetime, "duration": timedelta}
    return TypeAdapter(classes[type])


def _number(value: Decimal) -> int | float:
    if not math.isfinite(float(value)):
        raise ValueError
    return int(value) if value == value.to_integral_value() else float(value)


def example(name: str, type: Type = "string") -> str:
    """A value that a setting may have."""
    return SETTINGS[name].example if name in SETTINGS else EXAMPLES[type]


def similar(name: str) -> str | None:
    """The setting of this project that a name was probably meant for."""
    return next(iter(difflib.get_close_matches(name.upper(), SETTINGS, 1, 0.8)), None)


def is_secret(name: str) -> bool:
    """Whether something is a secret by its name."""
    return bool(re.fullmatch(SECRETS, name))


def refuse_secrets(name: str) -> None:
    """Refuse what must not be in a table that everybody reads, and what is read before there is one.

    Raises:
        SettingError: naming the place where it belongs.
    """
    if is_secret(name):
        raise SettingError(
            f"{name} is a secret by its name, and settings are kept in plain text",
            "put it into .env, or in base64 into .env_encoded",
        )
    if name.upper() in OF_THE_ENVIRONMENT:
        raise SettingError(f"{name} is read from the environment alone", "put it there, or into .env")


def type_of(name: str, given: Type | None, known: Type | None) -> Type:
    """The type of a setting that is about to be set.

    Args:
        name: one of this project's, or of somebody's own.
        given: what they say it is.
        known: what it is as long as they do not say.

    Raises:
        SettingError: the name is none that can be set, or the type is another.
    """
    refuse_secrets(name)
    if name in SETTINGS:
        declared = SETTINGS[name].type
        if given not in (None, declared):
            raise SettingError(f"{name} is no {given} but a {declared}", "leave --type out")
        return declared
    if not re.fullmatch(NAME, name):
        raise SettingError(
            "A setting's name is something else than a letter and then up to 127 letters, digits and _ . -",
            "write it like GCP_DATASET",
        )
    type = given or known
    if type:
        return type
    meant = f" (did you mean {similar(name)}?)" if similar(name) else ""
    raise SettingError(f"{name} is no setting{meant}", "give --type string where it is a value of your own")


def value_of(name: str, type: Type, text: str, place: Literal["given", "environment", "stored"] = "given") -> Any:
    """The value of a setting, checked by its rule.

    Raises:
        SettingError: naming the value, what is wrong with it, and how to mend it in the place where it stands.
    """
    text = text.strip()
    try:
        if not text or "\0" in text:
            raise ValueError("is empty" if not text else "has a byte in it that no text has")
        value = parse(type, text)
        if name in SETTINGS:
            value = SETTINGS[name].check(value)
        written(type, value).encode()
        return value
    except ValueError as error:
        what = "is not in UTF-8" if isinstance(error, UnicodeEncodeError) else str(error)
        shown = f" '{text}'" if text.isprintable() and 0 < len(text) <= LONGEST_SHOWN else ""
        mend = MENDS[place].format(name=name, example=example(name, type))
        raise SettingError(f"{name}{shown} {what}", mend) from None


def _refuse(rules: Sequence[tuple[object, str]]) -> None:
    """The first rule that is broken, as an error."""
    for kept, what in rules:
        if not kept:
            raise ValueError(what)


def _project(text: str) -> str:
    domain, colon, project = text.rpartition(":")
    _refuse([
        (not text.isdigit(), "is the number of a project, not its id"),
        (not colon or re.fullmatch(r"([a-z0-9-]+\.)+[a-z]+", domain), "has a : after what is no domain"),
        (
            re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", project),
            "is no project id (6 to 30 lower-case letters, digits and dashes, the first a letter, the last no dash)",
        ),
    ])  # fmt: skip
    return text


def _location(text: str) -> str:
    found = {name.lower(): name for name in LOCATIONS}
    meant = difflib.get_close_matches(text.lower(), found, 1)
    _refuse([
        (text.lower() in found, "is no location of BigQuery" + (f" (did you mean {found[meant[0]]}?)" if meant else ""))
    ])  # fmt: skip
    return found[text.lower()]


def _bucket(text: str) -> str:
    parts = text.split(".")
    _refuse([
        (not text.startswith("gs://"), "begins with gs://, which is no part of a bucket's name"),
        (re.fullmatch(r"[a-z0-9_.-]+", text), "has something else in it than lower-case letters, digits and - _ ."),
        (len(text) >= 3, "is shorter than 3 characters"),
        (len(parts) > 1 or len(text) <= 63, "is longer than 63 characters"),
        (len(text) <= 222, "is longer than 222 characters"),
        (text[0] not in "-_." and text[-1] not in "-_.", "does not begin and end with a letter or a digit"),
        (all(parts), "has two dots next to each other"),
        (all(len(part) <= 63 for part in parts), "has more than 63 characters between two dots"),
        (not re.fullmatch(r"\d+(\.\d+){3}", text), "is an IP address"),
        (not text.startswith("goog"), "begins with goog, which Google keeps for itself"),
        (not re.search(r"g[o0][o0]g[l1]e", text), "has google in it, which Google keeps for itself"),
    ])  # fmt: skip
    return text


def _dataset(text: str) -> str:
    _refuse([
        (re.fullmatch(r"\w+", text, re.ASCII), "has something else in it than letters, digits and _: no dash, no dot"),
        (len(text) <= 1024, "is longer than 1024 characters"),
    ])  # fmt: skip
    return text


def _mail(text: str) -> str:
    _refuse([
        (text == NOBODY or re.fullmatch(r"[^@\s,;<>]+@[^@\s,;<>]+", text), "is no mail address, one and without a name")
    ])  # fmt: skip
    return text


def _bytes_billed(number: int | float) -> int:
    _refuse([
        (isinstance(number, int), "is no whole number"),
        (number >= 10 << 20, "is below 10485760, which BigQuery bills at least"),
        (number < 2**63, "is more than BigQuery can count"),
    ])  # fmt: skip
    return int(number)


def _expiration(duration: timedelta) -> timedelta:
    _refuse(
        [
            (duration >= timedelta(hours=1), "is shorter than PT1H, an hour"),
            (duration <= timedelta(days=365), "is longer than P365D, a year"),
        ]
    )
    return duration


SETTINGS: Mapping[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("GCP_PROJECT_ID", "string", None, "Google's id of the project.", "my-project", _project),
        Setting("GCP_LOCATION", "string", None, "Where bucket and dataset are.", "EU", _location),
        Setting("GCP_BUCKET_NAME", "string", None, "The bucket of the trip files.", "my-project-trips", _bucket),
        Setting("GCP_DATASET", "string", None, "The dataset of the tables.", "trips", _dataset),
        Setting(
            "GCP_MAXIMUM_BYTES_BILLED", "number", 20_000_000_000,
            "A BigQuery statement that would bill more bytes fails and costs nothing.", "20000000000", _bytes_billed,
        ),
        Setting(
            "GCP_STAGING_EXPIRATION", "duration", timedelta(days=3),
            "After which a month's external and staging tables are gone.", "P3D", _expiration,
        ),
        Setting(
            "GCP_UPLOAD_GZIP", "boolean", True,
            "true: the gzip file goes into the bucket as it is published; false: the plain CSV.", "true", bool,
        ),
        Setting(
            "ALERT_MAIL_TO", "string", NOBODY, "Who gets a mail when a run fails for good: an address, or nobody.",
            "you@example.org", _mail,
        ),
    )
}  # fmt: skip
