"""How `taxi` reads .env."""

import os

import pytest

from taxi_assets.cli import _read_env
from taxi_assets.errors import TaxiError


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("TAXI_ONE", "TAXI_TWO", "TAXI_THREE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_the_environment_wins(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("\ufeffTAXI_ONE=file\n# a remark\n\nexport TAXI_TWO='of the $file'\nTAXI_THREE=\n")
    monkeypatch.setenv("TAXI_ONE", "environment")
    _read_env(tmp_path / ".env")
    assert (os.environ["TAXI_ONE"], os.environ["TAXI_TWO"]) == ("environment", "of the $file")
    _read_env(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('TAXI_ONE=1\nGCP_CREDS="{"type": "service_account",\n"private_key": "s3cr3t"}"\n', 2),
        ("\n\nTAXI_ONE='never ends\n", 3),
    ],
)
def test_what_is_no_line_is_not_left_out(tmp_path, text, line):
    file = tmp_path / ".env"
    file.write_text(text)
    with pytest.raises(TaxiError) as refused:
        _read_env(file)
    assert str(refused.value) == f"{file}, line {line}, is not written as NAME=value on one line: correct it."
    assert "TAXI_ONE" not in os.environ
