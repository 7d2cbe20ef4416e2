"""Secrets: where they are read from, what a service account of Google is, and `.env_encoded`, which keeps both.

What is wrong with a secret is told without any part of it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxi_assets.errors import TaxiError
from taxi_assets.resources.settings import PROJECT

FIELDS = ("project_id", "private_key", "client_email", "token_uri")
OTHER_ACCOUNTS = {
    "authorized_user": "the login of a person",
    "external_account": "the login of another cloud",
    "impersonated_service_account": "an impersonation",
}
DOWNLOAD = "download a key of a service account as JSON (IAM, Service accounts, Keys)"
IN_ONE = "write it on one line, or set GCP_CREDS to the path of the file"
UNIVERSE = "googleapis.com"
ONE_LINE = "write it anew on one line, with `taxi secrets encode` or `base64 -w0`"
LONGEST_PATH = 120  # that is shown; what is longer may be a secret


def secret(name: str) -> str | None:
    """A secret: from the environment, from `SECRET_{name}` there in base64, else from `.env_encoded`; None if nowhere.

    Raises:
        TaxiError: what is kept in base64 cannot be read.
    """
    encoded = f"SECRET_{name}"
    if plain := os.environ.get(name, "").strip():
        return plain
    if value := os.environ.get(encoded, "").strip():
        return _decoded(value, f"{encoded} in the environment")
    file = secrets_file()
    if os.environ.get("TAXI_SECRETS", "").strip() and not file.exists():
        raise TaxiError(f"There is no file {file}, which TAXI_SECRETS names: correct the path, or leave it unset.")
    lines = [line for line in _lines(_read(file)) if line.name == encoded and line.value]
    if not lines:
        return None
    line = lines[-1]
    where = f"{encoded} in {file}, line {line.first + 1},"
    if line.end - line.first > 1:
        raise TaxiError(f"{where} goes on in the next line: {ONE_LINE}.")
    return _decoded(line.value, where)


def secrets_file() -> Path:
    """The file of secrets in base64: `TAXI_SECRETS`, or `.env_encoded` beside pyproject.toml."""
    given = os.environ.get("TAXI_SECRETS", "").strip()
    return _path(given) if given else PROJECT / ".env_encoded"


def service_account(text: str) -> dict[str, Any]:
    """The service account that `GCP_CREDS` is: the path of its file, the JSON in it, or that in base64.

    Raises:
        TaxiError: it is none, or not whole.
    """
    text = text.strip()
    if text.startswith("{"):
        return _account(text, "GCP_CREDS")
    try:
        path = _path(text)
        if path.is_file():
            return _account(_read(path), "The file of GCP_CREDS")
    except (OSError, ValueError, RuntimeError):  # too long for a path, or with bytes in it that none has
        pass
    if re.fullmatch(r"[\w+/=-]+(\s+[\w+/=-]+)+", text, re.ASCII):
        raise TaxiError("GCP_CREDS goes over several lines: write it on one line, as `base64 -w0` does.")
    try:
        decoded = _base64(text)
    except ValueError:
        decoded = ""
    if decoded.lstrip().startswith("{"):
        return _account(decoded, "GCP_CREDS")
    if text.endswith(".json") and len(text) <= LONGEST_PATH and text.isprintable():
        raise TaxiError(f"There is no file {text}, which GCP_CREDS names: correct the path.")
    raise TaxiError(
        "GCP_CREDS is neither a file that is there, nor JSON, nor that in base64: set it to the path of the service "
        "account's file."
    )


def encode(path: Path, name: str = "GCP_CREDS") -> str:
    """The line of `.env_encoded` that keeps a service account's file.

    Raises:
        TaxiError: the file is no service account's.
    """
    content = _read(path)
    _account(content, str(path))
    return f"SECRET_{name}={base64.b64encode(content.encode()).decode()}"


def append(line: str, file: Path) -> bool:
    """Add a line to a file of secrets that only its owner can read then; True where it took the place of another.

    All other lines stay; the file is there whole at any moment.
    """
    file = file.resolve()
    rows = _read(file).splitlines(keepends=True)
    if rows and not rows[-1].endswith("\n"):
        rows[-1] += "\n"
    same = [old for old in _lines("".join(rows)) if old.name == line.partition("=")[0]]
    for old in reversed(same):
        rows[old.first : old.end] = []
    rows.insert(same[0].first if same else len(rows), f"{line}\n")
    write_whole(file, "".join(rows))
    return bool(same)


def write_whole(file: Path, text: str) -> None:
    """Put a file there at once, for its owner alone: whoever reads it meanwhile has the old one or the new one.

    Raises:
        TaxiError: it cannot be written.
    """
    file = file.resolve()
    try:
        mode = file.stat().st_mode & 0o700 if file.exists() else 0o600
        with tempfile.NamedTemporaryFile("w", dir=file.parent, encoding="utf-8", newline="", delete=False) as new:
            try:
                new.write(text)
                new.flush()
                os.fsync(new.fileno())
                Path(new.name).chmod(mode)
                Path(new.name).replace(file)
            except BaseException:
                Path(new.name).unlink()
                raise
    except OSError as error:
        raise TaxiError(f"{file} cannot be written ({error.strerror}): name another file with --output.") from None


@dataclass
class _Line:
    """One secret of a file. `end` is the number of the line after it, which is not the next one where it is wrapped."""

    name: str
    value: str
    first: int
    end: int


def _lines(text: str) -> Iterable[_Line]:
    lines: list[_Line] = []
    for number, row in enumerate(text.splitlines()):
        if found := re.fullmatch(r"\s*(?:export\s+)?(SECRET_\w+)\s*=\s*(.*?)\s*", row):
            value = re.sub(r"^(['\"])(.*)\1$", r"\2", found[2])
            lines.append(_Line(found[1], value, number, number + 1))
        elif lines and lines[-1].end == number and not lines[-1].value.endswith("="):
            # The rest of a value, as `base64` wraps it after 76 characters.
            lines[-1].end += bool(re.fullmatch(r"\s*[\w+/-]+={0,2}[\"']?\s*", row, re.ASCII))
    return lines


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise TaxiError(f"{path} cannot be read ({error.strerror}): make it a file that you may read.") from None
    except UnicodeDecodeError:
        raise TaxiError(f"{path} is no text in UTF-8: write it anew.") from None


def _path(text: str) -> Path:
    """A path as people write it into .env: relative to where they are, or else to the project."""
    path = Path(text).expanduser()
    return path if path.exists() else PROJECT / path


def _base64(text: str) -> str:
    return base64.b64decode(text.translate(str.maketrans("-_", "+/")), validate=True).decode("utf-8-sig")


def _decoded(text: str, where: str) -> str | None:
    try:
        return _base64(text).rstrip("\r\n") or None
    except ValueError:
        raise TaxiError(f"{where} is no text in base64: {ONE_LINE}.") from None


def _account(content: str, what: str) -> dict[str, Any]:
    try:
        account = json.loads(content)
    except (ValueError, RecursionError):
        account = None
    if not isinstance(account, dict):
        mend = IN_ONE if what == "GCP_CREDS" else DOWNLOAD
        raise TaxiError(f"{what} is no whole JSON, which a service account is: {mend}.")
    type_ = "an OAuth client" if {"installed", "web"} & set(account) else OTHER_ACCOUNTS.get(str(account.get("type")))
    if type_ or account.get("type") != "service_account":
        raise TaxiError(f"{what} is {type_ or 'something else'}, not a service account: {DOWNLOAD}.")
    if account.get("universe_domain", UNIVERSE) != UNIVERSE:
        raise TaxiError(f"{what} is of another universe than {UNIVERSE}: {DOWNLOAD}.")
    missing = [field for field in FIELDS if not (isinstance(account.get(field), str) and account[field].strip())]
    if missing:
        raise TaxiError(f"{what} is a service account without {' and '.join(missing)}: {DOWNLOAD}.")
    from google.auth.crypt import RSASigner

    try:
        RSASigner.from_string(account["private_key"]).sign(b"")
    except Exception:  # of several libraries, and their texts may show the key
        raise TaxiError(f"{what} has a damaged private_key: {DOWNLOAD}.") from None
    return account
