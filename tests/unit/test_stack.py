"""What `taxi init` writes, and what `taxi preflight` refuses."""

import re

import bcrypt
import pytest
from click.testing import CliRunner
from dotenv import dotenv_values

from taxi_assets.cli import taxi
from taxi_assets.errors import TaxiError
from taxi_assets.stack import LOGIN_HASH, PASSWORDS, make_env, problems
from tests.conftest import PROJECT

STRONG = {name: f"x7Kq2mZr8Wt4Vb-{place}" for place, name in enumerate(PASSWORDS)}


def hashed(password, rounds=10):
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds)).decode()


HASH = hashed("nobody guesses this")


@pytest.fixture
def env(tmp_path):
    return tmp_path / ".env"


def test_made_of_the_example(env):
    made, login = make_env(env)
    assert made == [*PASSWORDS, LOGIN_HASH]
    values = dotenv_values(env, interpolate=False)
    assert len({values[name] for name in PASSWORDS} | {login.password}) == len(PASSWORDS) + 1
    assert bcrypt.checkpw(login.password.encode(), values[LOGIN_HASH].encode())
    assert login.password not in env.read_text()
    assert (login.user, login.url) == ("taxi", "http://127.0.0.1:8080")
    assert env.stat().st_mode & 0o777 == 0o600
    example = (PROJECT / ".env.example").read_text().splitlines()
    written = env.read_text().splitlines()
    assert [line.partition("=")[0] for line in written] == [line.partition("=")[0] for line in example]
    assert not list(problems(values, env.parent))  # what is made is accepted


def test_two_are_never_the_same(tmp_path):
    first, second = (make_env(tmp_path / name)[1] for name in "ab")
    assert first.password != second.password
    one, other = (dotenv_values(tmp_path / name, interpolate=False) for name in "ab")
    assert not {one[name] for name in PASSWORDS} & {other[name] for name in PASSWORDS}


def test_what_is_there_stays(env):
    text = "# mine\nTAXI_SOURCE=sample\nexport TAXI_LOADER_PASSWORD = 'kept'\nPGADMIN_PASSWORD=\nDAGSTER_PASSWORD=a\n"
    env.write_text(text)
    made, login = make_env(env)
    assert made == ["TAXI_ADMIN_PASSWORD", "TAXI_READER_PASSWORD", "PGADMIN_PASSWORD", LOGIN_HASH]
    lines = env.read_text().splitlines()
    assert lines[:3] == text.splitlines()[:3] and lines[4] == "DAGSTER_PASSWORD=a"
    assert re.fullmatch(r"PGADMIN_PASSWORD=\w{24}", lines[3])
    assert login
    before = env.read_text()
    assert make_env(env) == ([], None)
    assert env.read_text() == before


def test_what_is_there_in_other_forms(env):
    env.write_bytes(
        b"\xef\xbb\xbfDAGSTER_PASSWORD=kept\r\nPGADMIN_PASSWORD=  # to do\r\nTAXI_LOGIN_USER=ann\r\nTAXI_PORT=9999\r\n"
    )
    made, login = make_env(env)
    assert "DAGSTER_PASSWORD" not in made and "PGADMIN_PASSWORD" in made
    assert (login.user, login.url) == ("ann", "http://127.0.0.1:9999")
    assert env.read_text().count("DAGSTER_PASSWORD=") == 1


def test_a_new_login(env):
    _, lost = make_env(env)
    before = dotenv_values(env, interpolate=False)
    made, login = make_env(env, new_login=True)
    after = dotenv_values(env, interpolate=False)
    assert made == [LOGIN_HASH] and login != lost
    assert bcrypt.checkpw(login.password.encode(), after[LOGIN_HASH].encode())
    assert {name for name in before if before[name] != after[name]} == {LOGIN_HASH}


def test_the_command_shows_the_login_once(env):
    done = CliRunner().invoke(taxi, ["init", "--output", str(env)])
    assert done.exit_code == 0
    [login] = re.findall(r"password  (\w{24})\n", done.output)
    values = dotenv_values(env, interpolate=False)
    assert bcrypt.checkpw(login.encode(), values[LOGIN_HASH].encode())
    assert not any(values[name] in done.output for name in PASSWORDS)
    again = CliRunner().invoke(taxi, ["init", "--output", str(env)])
    assert again.output == f"{env} has everything already: nothing was changed.\n"


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(TaxiError, match="cannot be written .*: name another file with --output.$"):
        make_env(tmp_path / "no" / ".env")
    (tmp_path / "folder").mkdir()
    with pytest.raises(TaxiError, match="cannot be read .*: name another file with --output.$"):
        make_env(tmp_path / "folder")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("x7Kq2mZ", "is shorter than 16 characters"),
        ("aaaaaaaaaaaaaaaaaaaa", "is easy to guess"),
        ("MyPassword-2020-2021", "is easy to guess"),
        ("correct horse battery", "has characters that a database's URL cannot hold"),
        ("with@in-the-middle-of", "has characters that a database's URL cannot hold"),
        ("pässwörter-sind-lang", "has characters that a database's URL cannot hold"),
    ],
)
def test_weak_passwords(value, said, tmp_path):
    [problem] = problems({**STRONG, LOGIN_HASH: HASH, "DAGSTER_PASSWORD": value}, tmp_path)
    assert problem.startswith(f"DAGSTER_PASSWORD {said}")
    assert problem.endswith(": empty it in .env, and `taxi init` makes another.")
    assert value not in problem


def test_missing_passwords(tmp_path):
    [problem] = problems({**STRONG, LOGIN_HASH: HASH, "DAGSTER_PASSWORD": ""}, tmp_path)
    assert problem == "DAGSTER_PASSWORD is not set: `taxi init` makes it, and all that is missing in .env."


def test_passwords_of_managed_databases_are_made_elsewhere(tmp_path):
    assert list(problems({LOGIN_HASH: HASH}, tmp_path, managed=True)) == []
    [problem] = problems({}, tmp_path, managed=True)
    assert problem.startswith("TAXI_LOGIN_HASH is not set: ")


def test_strong_passwords(tmp_path):
    assert list(problems({**STRONG, LOGIN_HASH: HASH}, tmp_path)) == []


def test_the_same_password_twice(tmp_path):
    given = {**STRONG, LOGIN_HASH: HASH, "TAXI_READER_PASSWORD": STRONG["TAXI_ADMIN_PASSWORD"]}
    [problem] = problems(given, tmp_path)
    assert problem.startswith("TAXI_READER_PASSWORD is the same as TAXI_ADMIN_PASSWORD: ")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: "", "is not set"),
        (lambda: "plain text", "is no hash of bcrypt"),
        (lambda: "$2b$12$", "is no hash of bcrypt"),  # what is left where the dollars were taken for variables
        (lambda: hashed("nobody guesses this", 5), "is hashed with 5 rounds"),
        (lambda: hashed(""), "is the hash of a password that is easy to guess"),
        (lambda: hashed("somebody"), "is the hash of a password that is easy to guess"),
        (lambda: hashed("admin"), "is the hash of a password that is easy to guess"),
    ],
)
def test_weak_logins(make, said, tmp_path):
    [problem] = problems({**STRONG, LOGIN_HASH: make(), "TAXI_LOGIN_USER": "somebody"}, tmp_path)
    assert problem.startswith(f"TAXI_LOGIN_HASH {said}") and problem.endswith(
        ": `taxi init --new-login` makes another."
    )


def test_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 5 << 20})())
    [problem] = problems({**STRONG, LOGIN_HASH: HASH}, tmp_path)
    assert problem.startswith(f"Only 5 MB are free at {tmp_path}: make room")


def test_a_folder_that_is_not_ours(tmp_path):
    [problem] = problems({**STRONG, LOGIN_HASH: HASH}, tmp_path / "none")
    assert "cannot be written to (No such file or directory): make it a volume that uid" in problem


def test_preflight_says_everything_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TAXI_HOME", str(tmp_path))
    for name in (*PASSWORDS, LOGIN_HASH):
        monkeypatch.setenv(name, "")
    done = CliRunner().invoke(taxi, ["preflight"])
    assert done.exit_code == 1
    assert [line.split()[1] for line in done.output.splitlines()] == [*PASSWORDS, LOGIN_HASH]
    for name, value in {**STRONG, LOGIN_HASH: HASH}.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(taxi, ["preflight"])
    assert (done.exit_code, done.output) == (0, "Passwords and disk are as they should be.\n")
