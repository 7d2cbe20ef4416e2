"""The settings that people change: kept in a table of the trips database, below what the environment says.

What a setting is, and which values it may have, is in `settings`; secrets are never kept here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

import dagster as dg

from taxi_assets.errors import TaxiError
from taxi_assets.resources.postgres import Postgres
from taxi_assets.resources.settings import (
    SETTINGS,
    TYPES,
    SettingError,
    Type,
    example,
    refuse_secrets,
    setting,
    similar,
    type_of,
    value_of,
    written,
)  # fmt: skip
from taxi_assets.sql import postgres as statement


@dataclass(frozen=True)
class Value:
    """The value of a setting, where it comes from, and when it was changed last, where it is stored."""

    name: str
    type: Type
    value: Any
    origin: Literal["environment", "stored", "default"]
    changed_at: datetime | None = None

    @property
    def text(self) -> str:
        """The value as it is written."""
        return written(self.type, self.value)


@dataclass(frozen=True)
class _Row:
    type: Type
    text: str
    changed_at: datetime


class SettingsStore(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The settings of one installation: the environment wins over what is stored, and that over the default.

    Attributes:
        postgres: the trips database, which has the table `taxi.settings`.
    """

    postgres: Postgres

    def all(self) -> dict[str, Value]:
        """Every setting that has a value, this project's own first.

        Raises:
            SettingError: naming all values, in the environment or stored by hand, that the rules forbid.
        """
        rows = self._rows()
        return _values([*SETTINGS, *sorted(rows.keys() - SETTINGS)], rows)

    def find(self, name: str) -> Value | None:
        """A setting with its type and origin; None where it has no value."""
        return self._find([name]).get(name)

    def get(self, name: str) -> Any | None:
        """The value of a setting; None where it has none.

        Raises:
            SettingError: the value breaks a rule, or the name is that of a secret.
        """
        found = self.find(name)
        return found.value if found else None

    def require(self, names: Iterable[str]) -> dict[str, Any]:
        """The values of settings that there is no way without.

        Raises:
            TaxiError: naming all that have none, with the commands that set them.
        """
        names = list(names)
        found = self._find(names)
        missing = [name for name in names if name not in found]
        if missing:
            *others, last = missing
            which = f"{', '.join(others)} and {last} are" if others else f"{last} is"
            raise TaxiError(f"{which} not set: {'; '.join(map(setting_command, missing))}.")
        return {name: found[name].value for name in names}

    def set(self, name: str, text: str, type: Type | None = None) -> Value:
        """Store one setting.

        Args:
            name: one of this project's, or somebody's own.
            text: the value as people write it.
            type: of a value of somebody's own; not needed where it is stored already.

        Raises:
            SettingError: the name or the value breaks a rule.
        """
        row = self._rows().get(name)
        type = type_of(name, type, _known(row))
        return self._save([Value(name, type, value_of(name, type, text), "stored")])[0][0]

    def set_many(self, values: Mapping[str, Any]) -> Sequence[Value]:
        """Store all of the settings, or none where one breaks a rule; returns those that were changed.

        Args:
            values: text, or a number, bool, date, datetime or anything of JSON, which tells the type of a value of
                somebody's own.

        Raises:
            SettingError: naming all that is wrong.
        """
        rows = self._rows()
        checked, wrong = [], []
        for name, value in values.items():
            text, type = _text_and_type(value)
            try:
                type = type_of(name, None, _known(rows.get(name)) or (None if similar(name) else type))
                checked.append(Value(name, type, value_of(name, type, text), "stored"))
            except SettingError as error:
                wrong.append(error)
        _raise(wrong, "Nothing was set")
        return [value for value, changed in self._save(checked) if changed] if checked else []

    def unset(self, name: str) -> None:
        """Forget a stored setting.

        Raises:
            TaxiError: it is not stored, and where its value comes from instead.
        """
        if name in self._rows():
            with self.postgres.connect() as connection:
                connection.execute("DELETE FROM taxi.settings WHERE name = %s", (name,))
            return
        found = self.find(name)
        if found and found.origin == "environment":
            raise TaxiError(f"{name} is set by the environment, not stored: take it out of there, or out of .env.")
        if found:
            raise TaxiError(f"{name} is not stored, {found.text} is its default: set it to what you want instead.")
        raise TaxiError(f"{name} is not set: `taxi settings list` shows what is.")

    def _find(self, names: Sequence[str]) -> dict[str, Value]:
        # No database is asked, or started, for what the environment answers.
        answered = all(name in SETTINGS and setting(name) for name in names)
        return _values(names, {} if answered else self._rows())

    def _rows(self) -> dict[str, _Row]:
        with self.postgres.connect() as connection:
            if connection.execute("SELECT to_regclass('taxi.settings')").fetchone() == (None,):
                return {}
            rows = connection.execute("SELECT name, type, value, changed_at FROM taxi.settings").fetchall()
            return {name: _Row(*row) for name, *row in rows}

    def _save(self, values: Sequence[Value]) -> list[tuple[Value, bool]]:
        """Store them in one transaction; with each, whether it is another than before."""
        from psycopg.sql import Literal

        saved = []
        with self.postgres.alone("settings") as note, note.connection.transaction():
            note.connection.execute(statement("create_settings"))
            for value in values:
                parts = {"name": Literal(value.name), "type": Literal(value.type), "value": Literal(value.text)}
                row = note.connection.execute(statement("upsert_setting", **parts)).fetchone()
                assert row is not None  # it returns one
                saved.append((Value(value.name, value.type, value.value, "stored", row[0]), bool(row[1])))
        return saved


def _values(names: Iterable[str], rows: Mapping[str, _Row]) -> dict[str, Value]:
    found, wrong = {}, []
    for name in names:
        try:
            value = _value(name, rows.get(name))
        except SettingError as error:
            wrong.append(error)
        else:
            found.update({name: value} if value else {})
    _raise(wrong, "Some settings are wrong")
    return found


def _value(name: str, row: _Row | None) -> Value | None:
    try:
        refuse_secrets(name)
    except SettingError as error:
        raise SettingError(error.what, f"taxi settings unset {name}" if row else error.mend) from None
    declared = SETTINGS.get(name)
    type = declared.type if declared else row.type if row else None
    if type is None:
        return None
    if type not in TYPES:
        raise SettingError(
            f"{name} is stored with a type that is none", f"taxi settings set {name} VALUE --type string"
        )
    given = setting(name)
    if given:
        return Value(name, type, value_of(name, type, given, "environment"), "environment")
    if row:
        return Value(name, type, value_of(name, type, row.text, "stored"), "stored", row.changed_at)
    return Value(name, type, declared.default, "default") if declared and declared.default is not None else None


def _known(row: _Row | None) -> Type | None:
    return row.type if row and row.type in TYPES else None


def _text_and_type(value: Any) -> tuple[str, Type]:
    """A value as it is written, and the type that it has by itself."""
    if value is None or isinstance(value, str):
        return value or "", "string"
    if isinstance(value, (bool, int, float)):
        return str(value).lower(), "boolean" if isinstance(value, bool) else "number"
    if isinstance(value, date):  # a datetime is one, too
        return value.isoformat(), "datetime" if isinstance(value, datetime) else "date"
    return json.dumps(value, default=str), "JSON"


def setting_command(name: str) -> str:
    """The command that sets it."""
    if name in SETTINGS:
        return f"taxi settings set {name} {example(name)}"
    meant = similar(name)
    return f"perhaps {meant} is meant" if meant else f"taxi settings set {name} VALUE --type string"


def _raise(errors: Sequence[SettingError], what: str) -> None:
    """All of the errors as one."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise SettingError(what, "; ".join(f"{error.what} ({error.mend})" for error in errors))
