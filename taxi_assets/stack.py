"""What the compose stack needs before it starts: passwords in .env, made here, and a look at them and at the disk.

The services themselves are in docker-compose.yaml.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import string
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from taxi_assets.errors import TaxiError
from taxi_assets.resources.secrets import write_whole
from taxi_assets.resources.settings import PROJECT

PASSWORDS = (
    "TAXI_ADMIN_PASSWORD", "TAXI_LOADER_PASSWORD", "TAXI_READER_PASSWORD", "DAGSTER_PASSWORD", "PGADMIN_PASSWORD",
)  # fmt: skip
LOGIN_HASH = "TAXI_LOGIN_HASH"
LENGTH = 24  # of 62 characters each: 142 bits
SHORTEST = 16
IN_URLS = r"[A-Za-z0-9._~-]*"  # what needs no % in the URL of a database
GUESSED = ("taxi", "admin", "password", "changeme", "secret", "dagster", "postgres", "12345678", "letmein")
HASH = r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}"
ROUNDS = 12  # a quarter of a second; the proxy remembers what it has seen
FEWEST_ROUNDS = 10
LEAST_BYTES_FREE = 1 << 30


@dataclass(frozen=True)
class Login:
    """What lets people in, and where: the password is kept nowhere, only its hash is."""

    user: str
    password: str
    url: str


def make_env(file: Path, new_login: bool = False) -> tuple[list[str], Login | None]:
    """Write a .env with strong passwords, or add to one that is there what it lacks; nothing that is set changes.

    Args:
        file: made of `.env.example` where it is not there; readable by its owner alone.
        new_login: make another password for the login, which is the one thing that may be lost.

    Returns:
        The names of what was made, and the login where that was.

    Raises:
        TaxiError: the file cannot be read or written.
    """
    try:
        there = file.exists()
        lines = (file if there else PROJECT / ".env.example").read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TaxiError(f"{file} cannot be read ({error}): name another file with --output.") from None
    made: list[str] = []
    for name in PASSWORDS:
        if not _value(lines, name):
            _put(lines, name, _password())
            made.append(name)
    login = None
    if new_login or not _value(lines, LOGIN_HASH):
        host, port = _value(lines, "TAXI_BIND") or "127.0.0.1", _value(lines, "TAXI_PORT") or "8080"
        login = Login(_value(lines, "TAXI_LOGIN_USER") or "taxi", _password(), f"http://{host}:{port}")
        # In quotes: the dollars of a hash are no variables.
        _put(lines, LOGIN_HASH, f"'{_hash(login.password)}'")
        made.append(LOGIN_HASH)
    if made:
        write_whole(file, "\n".join(lines) + "\n")
    return made, login


def problems(environment: Mapping[str, str], home: Path, managed: bool = False) -> Iterator[str]:
    """What is wrong with the passwords of a stack, and with the folder of its state, in a sentence each.

    No password is shown.

    Args:
        environment: that holds the passwords.
        home: the folder of its state.
        managed: whether the databases are elsewhere, so that no password for them is made here.
    """
    seen: dict[str, str] = {}
    for name in () if managed else PASSWORDS:
        value = environment.get(name, "")
        if not value:
            yield f"{name} is not set: `taxi init` makes it, and all that is missing in .env."
        elif problem := _weakness(value):
            yield f"{name} {problem}: empty it in .env, and `taxi init` makes another."
        elif value in seen:
            yield f"{name} is the same as {seen[value]}: empty one of them in .env, and `taxi init` makes another."
        seen.setdefault(value, name)
    if problem := _weak_login(environment.get(LOGIN_HASH, ""), environment.get("TAXI_LOGIN_USER", "")):
        yield f"{LOGIN_HASH} {problem}: `taxi init --new-login` makes another."
    try:
        with tempfile.TemporaryFile(dir=home):
            pass
        free = shutil.disk_usage(home).free
    except OSError as error:
        yield f"{home} cannot be written to ({error.strerror}): make it a volume that uid {os.getuid()} owns."
    else:
        if free < LEAST_BYTES_FREE:
            yield f"Only {free >> 20} MB are free at {home}: make room, or give it a larger disk, then start again."


def _value(lines: list[str], name: str) -> str:
    """The last value of a variable, as everybody reads a .env; empty where it has none."""
    found = [match[1] for line in lines if (match := re.fullmatch(rf"\s*(?:export\s+)?{name}\s*=\s*(.*?)\s*", line))]
    return found[-1].strip("'\"") if found and not found[-1].startswith("#") else ""


def _put(lines: list[str], name: str, value: str) -> None:
    places = [place for place, line in enumerate(lines) if re.match(rf"\s*(?:export\s+)?{name}\s*=", line)]
    if places:
        lines[places[-1]] = f"{name}={value}"
    else:
        lines.append(f"{name}={value}")


def _password() -> str:
    alphabet = string.ascii_letters + string.digits
    while True:
        password = "".join(secrets.choice(alphabet) for _ in range(LENGTH))
        if not _weakness(password):
            return password


def _hash(password: str) -> str:
    import bcrypt

    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode()


def _weakness(password: str) -> str | None:
    if not re.fullmatch(IN_URLS, password):
        return "has characters that a database's URL cannot hold, other than letters, digits and . _ ~ -"
    if len(password) < SHORTEST:
        return f"is shorter than {SHORTEST} characters"
    if len(set(password)) < SHORTEST // 2 or any(word in password.lower() for word in GUESSED):
        return "is easy to guess"
    return None


def _weak_login(hashed: str, user: str) -> str | None:
    import bcrypt

    if not hashed:
        return "is not set"
    found = re.fullmatch(HASH, hashed)
    if not found:
        return "is no hash of bcrypt, such as '$2b$12$...' in single quotes"
    if int(found[1]) < FEWEST_ROUNDS:
        return f"is hashed with {int(found[1])} rounds, which is quick to try out"
    if any(bcrypt.checkpw(word.encode(), hashed.encode()) for word in (*GUESSED, "", user)):
        return "is the hash of a password that is easy to guess"
    return None
