"""The types of BigQuery's values: how DuckDB holds them, how they are read from text, and how the API prints them."""

from __future__ import annotations

import base64
import re
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

# DuckDB's type of each. A TIMESTAMP is held as UTC, without a zone.
TYPES = {
    "STRING": "VARCHAR",
    "INT64": "BIGINT",
    "NUMERIC": "DECIMAL(38, 9)",
    "FLOAT64": "DOUBLE",
    "BOOL": "BOOLEAN",
    "TIMESTAMP": "TIMESTAMP",
    "DATE": "DATE",
    "BYTES": "BLOB",
}

# The API names three of them as legacy SQL does.
API_TYPES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}

# Logical bytes of all values of a column, NULL being 0: https://cloud.google.com/bigquery/pricing#data.
SIZES = {
    "STRING": "coalesce(sum(2 + strlen({0})), 0)",
    "INT64": "8 * count({0})",
    "NUMERIC": "16 * count({0})",
    "FLOAT64": "8 * count({0})",
    "BOOL": "count({0})",
    "TIMESTAMP": "8 * count({0})",
    "DATE": "8 * count({0})",
    "BYTES": "coalesce(sum(2 + octet_length({0})), 0)",
}

EPOCH = datetime(1970, 1, 1)
TIMESTAMP = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[ Tt](\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,6}))?)?"
    r"(Z|z| ?UTC| ?([+-])(\d{1,2})(?::?(\d{2}))?)?"
)


def read_timestamp(text: str) -> datetime:
    """Read a TIMESTAMP in BigQuery's canonical format, in UTC where no zone is given; names of zones are refused.

    Raises:
        ValueError: it is none.
    """
    found = TIMESTAMP.fullmatch(text)
    if not found:
        raise ValueError(text)
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    value = datetime(year, month, day, hour, minute, second, int((found[7] or "").ljust(6, "0")))
    if found[9]:
        offset = timedelta(hours=int(found[10]), minutes=int(found[11] or 0))
        value -= offset if found[9] == "+" else -offset
    return value


def read_date(text: str) -> date:
    """Read a DATE, `YYYY-[M]M-[D]D`.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", text)
    if not found:
        raise ValueError(text)
    return date(*map(int, found.groups()))


def milliseconds(moment: datetime | None = None) -> str:
    """A moment in UTC, or now, as the API writes times of jobs and tables."""
    moment = moment or utc_now()
    return str((moment - EPOCH) // timedelta(milliseconds=1))


def utc_now() -> datetime:
    return datetime.now(timezone.utc).replace(tzinfo=None)


def cell(value: Any, int64_timestamp: bool) -> dict[str, Any]:
    """One value in a row of an answer."""
    return {"v": None if value is None else _text(value, int64_timestamp)}


def _text(value: Any, int64_timestamp: bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, datetime):
        microseconds = (value - EPOCH) // timedelta(microseconds=1)
        return str(microseconds) if int64_timestamp else repr(microseconds / 1e6)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)
