"""Secrets from every place, in every state that people bring them in; no error shows any part of one."""

import base64
import json
import os
import stat
import threading

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxi_assets.errors import TaxiError
from taxi_assets.resources import secrets
from taxi_assets.resources.secrets import append, encode, secret, secrets_file, service_account
from taxi_assets.resources.settings import setting

ANEW = "write it anew on one line, with `taxi secrets encode` or `base64 -w0`."
DOWNLOAD = "download a key of a service account as JSON (IAM, Service accounts, Keys)."


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture(scope="module")
def account():
    return {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "0123456789abcdef0123456789abcdef",
        "private_key": pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        "client_email": "loader@my-project.iam.gserviceaccount.com",
        "client_id": "123456789012345678901",
        "token_uri": "https://oauth2.googleapis.com/token",
    }


@pytest.fixture(scope="module")
def text(account):
    return json.dumps(account, indent=2) + "\n"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The file of secrets."""
    path = tmp_path / ".env_encoded"
    monkeypatch.setenv("TAXI_SECRETS", str(path))
    return path


@pytest.fixture
def json_file(tmp_path, text):
    path = tmp_path / "account.json"
    path.write_text(text)
    return path


def b64(text, urlsafe=False):
    return (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(text.encode()).decode()


def wrapped(text, width=76):
    encoded = b64(text)
    return "\n".join(encoded[start : start + width] for start in range(0, len(encoded), width))


def refused(call, *arguments, hidden=""):
    """What is said, which holds nothing of what is hidden."""
    with pytest.raises(TaxiError) as caught:
        call(*arguments)
    error, said = caught.value, str(caught.value)
    assert "\n" not in said and said.endswith(".")
    assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
    for part in {hidden[start : start + 12] for start in range(len(hidden) - 11)}:
        assert part not in said
    return said


def test_places_in_their_order(file, monkeypatch):
    file.touch()
    assert secret("MINE") is None
    file.write_text(f"SECRET_MINE={b64('of the file')}\n")
    assert secret("MINE") == "of the file"
    monkeypatch.setenv("SECRET_MINE", b64("of the environment in base64"))
    assert secret("MINE") == "of the environment in base64"
    monkeypatch.setenv("MINE", " plain ")
    assert secret("MINE") == "plain"
    monkeypatch.setenv("MINE", "")
    monkeypatch.setenv("SECRET_MINE", "")
    assert secret("MINE") == "of the file"
    file.unlink()
    assert refused(secret, "MINE") == (
        f"There is no file {file}, which TAXI_SECRETS names: correct the path, or leave it unset."
    )


def test_a_setting_may_be_in_the_file(file, monkeypatch):
    file.write_text(f"SECRET_TAXI_POSTGRES_URL={b64('postgresql://user:pw@host/db')}\n")
    assert setting("TAXI_POSTGRES_URL") == "postgresql://user:pw@host/db"
    monkeypatch.setenv("TAXI_POSTGRES_URL", "postgresql://host/other")
    assert setting("TAXI_POSTGRES_URL") == "postgresql://host/other"


def test_where_the_file_is(file, monkeypatch, tmp_path):
    assert secrets_file() == file
    monkeypatch.setenv("TAXI_SECRETS", "")
    assert secrets_file() == secrets.PROJECT / ".env_encoded"
    monkeypatch.setenv("TAXI_SECRETS", "keys/encoded")
    assert secrets_file() == secrets.PROJECT / "keys" / "encoded"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "encoded").write_text("")
    assert secrets_file().resolve() == tmp_path / "keys" / "encoded"


def test_the_file_as_people_write_it(file):
    plain = "ä secret????>\nof two lines\n"
    file.write_bytes(
        b"\xef\xbb\xbf# of the flow engine\r\n\r\n"
        + f"export SECRET_ONE = '{b64(plain)}'\r\n".encode()
        + f'SECRET_TWO="{b64(plain, urlsafe=True)}"\n'.encode()
        + b"  SECRET_THREE=b25l  \n"
        + b"OTHER=value\n#SECRET_FOUR=b25l\nSECRET_EMPTY=\nSECRET_PADDED=dHdv\n"
        + b"SECRET_TWICE=b25l\nSECRET_TWICE=dHdv\nSECRET_LAST=b25lCg=="
    )
    assert b64(plain) != b64(plain, urlsafe=True)
    assert secret("ONE") == secret("TWO") == "ä secret????>\nof two lines"
    assert secret("THREE") == "one"
    assert secret("FOUR") is None
    assert secret("EMPTY") is None
    assert secret("TWICE") == "two"
    assert secret("LAST") == "one"


def test_an_empty_line_of_another_kind_is_no_rest(file):
    file.write_text(f"SECRET_MINE={b64('secret')}\nSECRET_PAD={b64('secret!')}\nNAME=\n")
    assert b64("secret!").endswith("=")
    assert secret("PAD") == "secret!"


@pytest.mark.parametrize("width", [64, 76])
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_wrapped_value(file, text, width, quote):
    lines = wrapped(text, width).replace("\n", "\r\n")
    file.write_bytes(f"# mine\nSECRET_GCP_CREDS={quote}{lines}{quote}\nSECRET_OTHER=b25l\n".encode())
    said = refused(secret, "GCP_CREDS", hidden=wrapped(text).replace("\n", ""))
    assert said == f"SECRET_GCP_CREDS in {file}, line 2, goes on in the next line: {ANEW}"
    assert secret("OTHER") == "one"  # one that is broken keeps no other from being read


@pytest.mark.parametrize(
    "value", ["no base64!", "b25", "b25lb", "b2 5l", "'b25l", "/w==", "bXkgc2VjcmV0IGtleQ=", "zürich12"]
)
def test_a_broken_value(file, monkeypatch, value):
    file.write_text(f"\n# mine\nSECRET_MINE={value}\n")
    said = refused(secret, "MINE", hidden=value)
    assert said == f"SECRET_MINE in {file}, line 3, is no text in base64: {ANEW}"
    monkeypatch.setenv("SECRET_MINE", value)
    assert refused(secret, "MINE") == f"SECRET_MINE in the environment is no text in base64: {ANEW}"


def test_a_wrapped_value_in_the_environment(file, monkeypatch, text):
    monkeypatch.setenv("SECRET_GCP_CREDS", wrapped(text))
    said = refused(secret, "GCP_CREDS", hidden=b64(text))
    assert said == f"SECRET_GCP_CREDS in the environment is no text in base64: {ANEW}"


def test_a_file_that_cannot_be_read(file):
    file.mkdir()
    assert refused(secret, "MINE") == f"{file} cannot be read (Is a directory): make it a file that you may read."
    file.rmdir()
    file.write_bytes(b"SECRET_MINE=\xff\xfe")
    assert refused(secret, "MINE") == f"{file} is no text in UTF-8: write it anew."


def test_a_service_account_in_every_form(account, text, json_file, monkeypatch):
    relative = os.path.relpath(json_file)
    for form in (
        str(json_file),
        relative,
        text,
        json.dumps(account),
        b64(text),
        b64(text, urlsafe=True),
        f" {b64(text)}\n",
    ):
        assert service_account(form) == account
    json_file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert service_account(str(json_file)) == account
    monkeypatch.setenv("HOME", str(json_file.parent))
    assert service_account("~/account.json") == account
    monkeypatch.setattr(secrets, "PROJECT", json_file.parent)
    assert service_account("account.json") == account  # as written into .env, wherever the command is called


def test_a_path_that_leads_nowhere(text):
    assert refused(service_account, "/nowhere/account.json") == (
        "There is no file /nowhere/account.json, which GCP_CREDS names: correct the path."
    )
    long = f"/{'x' * 200}.json"
    for path in (long, "/nowhere/account", "~nobody-here/account.txt", "/nowhere/a\tb.json", "x" * 5000):
        assert refused(service_account, path, hidden=path) == (
            "GCP_CREDS is neither a file that is there, nor JSON, nor that in base64: set it to the path of the "
            "service account's file."
        )


def test_a_wrapped_value_is_not_half_read(text):
    for width in (64, 76):
        said = refused(service_account, wrapped(text, width), hidden=b64(text))
        assert said == "GCP_CREDS goes over several lines: write it on one line, as `base64 -w0` does."


@pytest.mark.parametrize("characters", [76, 75, 300, 1001, 2000])
def test_a_value_that_is_cut_off(text, characters):
    """As a line of .env is, where the value has several."""
    for whole in (b64(text), text):
        refused(service_account, whole[:characters], hidden=whole)


WHOLE = "is no whole JSON, which a service account is"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", WHOLE),
        ("{", WHOLE),
        ("[]", WHOLE),
        ("not JSON", WHOLE),
        ('"service_account"', WHOLE),
        ("[" * 100_000, WHOLE),
        ('{"type": "authorized_user", "x": "s3cr3ts3cr3t"}', "is the login of a person, not a service account"),
        ('{"type": "external_account"}', "is the login of another cloud, not a service account"),
        ('{"type": "impersonated_service_account"}', "is an impersonation, not a service account"),
        ('{"installed": {"client_secret": "s3cr3ts3cr3t"}}', "is an OAuth client, not a service account"),
        ('{"web": {"client_secret": "s3cr3ts3cr3t"}}', "is an OAuth client, not a service account"),
        ('{"type": ["s3cr3ts3cr3t"]}', "is something else, not a service account"),
        ("{}", "is something else, not a service account"),
        (
            '{"type": "service_account"}',
            "is a service account without project_id and private_key and client_email and token_uri",
        ),
    ],
)  # fmt: skip
def test_what_is_no_service_account(tmp_path, content, said):
    path = tmp_path / "account.json"
    path.write_text(content)
    assert refused(encode, path, hidden="s3cr3ts3cr3t") == f"{path} {said}: {DOWNLOAD}"
    assert refused(service_account, str(path), hidden="s3cr3ts3cr3t") == f"The file of GCP_CREDS {said}: {DOWNLOAD}"
    if content.startswith("{"):
        mend = "write it on one line, or set GCP_CREDS to the path of the file." if said == WHOLE else DOWNLOAD
        for form in (content, b64(content)):
            assert refused(service_account, form, hidden="s3cr3ts3cr3t") == f"GCP_CREDS {said}: {mend}"


def test_an_account_of_another_universe(account):
    other = json.dumps({**account, "universe_domain": "example.cloud"})
    assert refused(service_account, other) == f"GCP_CREDS is of another universe than googleapis.com: {DOWNLOAD}"
    assert service_account(json.dumps({**account, "universe_domain": "googleapis.com"}))


@pytest.mark.parametrize("field", ["project_id", "private_key", "client_email", "token_uri"])
@pytest.mark.parametrize("value", [None, "", " ", 1, ["x"]])
def test_a_missing_field(account, field, value):
    content = json.dumps({**account, field: value})
    said = refused(service_account, content, hidden=account["private_key"])
    assert said == f"GCP_CREDS is a service account without {field}: {DOWNLOAD}"
    without = json.dumps({name: value for name, value in account.items() if name != field})
    assert refused(service_account, without) == said


def test_a_damaged_key(account, json_file):
    key = account["private_key"]
    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    damaged = [
        key.replace("\n", "\\n"), key[: len(key) // 2], key.replace("PRIVATE", "PUBLIC"), key[:200] + key[230:],
        "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", "s3cr3ts3cr3t", public.decode(),
        pem(ec.generate_private_key(ec.SECP256R1())),
    ]  # fmt: skip
    for broken in damaged:
        content = json.dumps({**account, "private_key": broken})
        said = refused(service_account, content, hidden=broken.replace("-----BEGIN PRIVATE KEY-----", ""))
        assert said == f"GCP_CREDS has a damaged private_key: {DOWNLOAD}"
        json_file.write_text(content)
        assert refused(encode, json_file) == f"{json_file} has a damaged private_key: {DOWNLOAD}"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_whatever_is_cut_out_of_it_is_not_shown(text, data):
    form = data.draw(st.sampled_from([text, b64(text), wrapped(text)]))
    start = data.draw(st.integers(0, len(form) - 1))
    end = data.draw(st.integers(start, len(form)))
    part = form[start:end]
    try:
        service_account(part)
    except TaxiError as error:
        assert not any(part[at : at + 12] in str(error) for at in range(len(part) - 11) if part[at : at + 12].strip())
    else:
        assert part.strip() == form.strip()


def test_encode_and_append(file, json_file, account, text):
    line = encode(json_file)
    assert line == f"SECRET_GCP_CREDS={b64(text)}"
    assert append(line, file) is False
    assert file.read_text() == f"{line}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert service_account(secret("GCP_CREDS")) == account
    assert encode(json_file, "OTHER") == f"SECRET_OTHER={b64(text)}"
    assert list(file.parent.glob("tmp*")) == []


def test_append_keeps_the_other_lines(file):
    file.write_bytes(b"# mine\r\nSECRET_ONE=b25l\r\n\nSECRET_TWO=dHdv")
    file.chmod(0o644)
    assert append("SECRET_THREE=dGhyZWU=", file) is False
    assert file.read_bytes() == b"# mine\r\nSECRET_ONE=b25l\r\n\nSECRET_TWO=dHdv\nSECRET_THREE=dGhyZWU=\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o700)
    assert append("SECRET_ONE=bmV3", file) is True
    assert file.read_bytes() == b"# mine\r\nSECRET_ONE=bmV3\n\nSECRET_TWO=dHdv\nSECRET_THREE=dGhyZWU=\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o700


def test_append_mends_what_is_wrapped_or_there_twice(file, text):
    file.write_text(f"SECRET_A=b25l\nexport SECRET_MINE='{wrapped(text)}'\nSECRET_B=dHdv\nSECRET_MINE=b25l\nX=1\n")
    assert append("SECRET_MINE=bmV3", file) is True
    assert file.read_text() == "SECRET_A=b25l\nSECRET_MINE=bmV3\nSECRET_B=dHdv\nX=1\n"


def test_append_follows_a_link(file, tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("SECRET_A=b25l\n")
    file.symlink_to(kept)
    append("SECRET_B=dHdv", file)
    assert file.is_symlink()
    assert kept.read_text() == "SECRET_A=b25l\nSECRET_B=dHdv\n"


def test_append_where_nothing_can_be_written(tmp_path):
    missing = tmp_path / "missing" / "file"
    said = refused(append, "SECRET_MINE=bXkgc2VjcmV0IGtleQ==", missing, hidden="bXkgc2VjcmV0IGtleQ==")
    assert said == f"{missing} cannot be written (No such file or directory): name another file with --output."


def test_append_leaves_the_file_as_it_was_where_it_fails(file, monkeypatch):
    file.write_text("SECRET_A=b25l\n")

    def fail(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    assert "No space left" in refused(append, "SECRET_B=dHdv", file)
    assert file.read_text() == "SECRET_A=b25l\n"
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_readers_never_see_half_a_file(file):
    append("SECRET_MINE=b25l", file)
    done, seen = threading.Event(), set()

    def read():
        while not done.is_set():
            seen.add(secret("MINE"))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(50):
        append(f"SECRET_OTHER_{number}={b64('x' * 10_000)}", file)
    done.set()
    reader.join()
    assert seen == {"one"}
