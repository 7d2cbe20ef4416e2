"""CSV files of an external table, read from the storage emulator as BigQuery reads them.

Plain files go through DuckDB with patterns that are stricter than BigQuery; whatever fails there is read again line by
line, which settles what BigQuery makes of it and where the first bad row stands.
"""

from __future__ import annotations

import csv
import re
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from pathlib import Path

import duckdb

from tests.emulators.bigquery.errors import GoogleError, UnsupportedError, invalid, not_found
from tests.emulators.bigquery.values import TYPES, read_date, read_timestamp

CHUNK = 1 << 20
NO_NULLS = "\\x00"  # an empty field is the empty text first: only the types make a NULL of it

FIELD = r'(?:"(?:[^"]|"")*"|[^",]*)'

# What is read at once; each is a part of what the readers below accept.
PATTERNS = {
    "INT64": "-?[0-9]+",
    "NUMERIC": r"-?([0-9]+(\.[0-9]{0,9})?|\.[0-9]{1,9})",
    "TIMESTAMP": "[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?",
    "DATE": "[0-9]{4}-[0-9]{2}-[0-9]{2}",
}


@dataclass(frozen=True)
class CsvFile:
    """A downloaded and unpacked file.

    Attributes:
        lines: how many line ends it has, one more if the last line has none.
        plain: no quotes, no NUL, and the same line end everywhere.
    """

    uri: str
    path: Path
    bytes: int
    lines: int
    plain: bool


def fetch(storage_url: str, uri: str, compressed: bool, path: Path) -> CsvFile:
    """Download one object and unpack it."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    address = f"{storage_url}/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media"
    counted = dict.fromkeys((b"\n", b"\r", b'"', b"\0"), 0)
    size, last = 0, b"\n"
    try:
        with urllib.request.urlopen(address, timeout=60) as response, path.open("wb") as file:
            for data in _unpacked(iter(lambda: response.read(CHUNK), b""), compressed, uri):
                file.write(data)
                size, last = size + len(data), data[-1:]
                for byte in counted:
                    counted[byte] += data.count(byte)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise not_found(f"Files {uri}") from error
        raise GoogleError("backendError", f"Cloud Storage answered {error.code} for {uri}") from error
    except OSError as error:
        raise GoogleError("backendError", f"Cloud Storage does not answer: {error}") from error
    newlines, returns, quotes, nulls = counted.values()
    plain = not quotes and not nulls and returns in (0, newlines)
    return CsvFile(uri, path, size, newlines + (last != b"\n"), plain)


def _unpacked(chunks: Iterator[bytes], compressed: bool, uri: str) -> Iterator[bytes]:
    """The bytes of a file; gzip of several members, too."""
    if not compressed:
        yield from chunks
        return
    unpacker = zlib.decompressobj(wbits=31)
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                if unpacker.eof:
                    unpacker = zlib.decompressobj(wbits=31)
                data = unpacker.decompress(rest)
                rest = unpacker.unused_data
                if data:
                    yield data
    except zlib.error as error:
        raise invalid(f"Error while reading data, error message: {error} File: {uri}") from error
    if not unpacker.eof:
        raise invalid(f"Error while reading data, error message: Input file is not in gzip format. File: {uri}")


@dataclass(frozen=True)
class Csv:
    """How an external table reads its files."""

    table: str
    columns: Mapping[str, str]
    skip: int
    ignore_unknown: bool

    def load(self, connection: duckdb.DuckDBPyConnection, file: CsvFile, target: str) -> None:
        """Append the rows of a file to a table of these columns, or fail as a whole."""
        if file.lines <= self.skip:
            return
        if file.plain and self._append(connection, file, self.skip, target):
            return
        path = file.path.with_suffix(".rewritten")
        rows = self._rewrite(file, path)
        if not self._append(connection, replace(file, path=path, lines=rows), 0, target):
            raise UnsupportedError(f"what {file.uri} holds")

    def _append(self, connection: duckdb.DuckDBPyConnection, file: CsvFile, skip: int, target: str) -> bool:
        """Whether every line became a row of good values; if not, nothing is appended."""
        fields = {f"c{place}": "VARCHAR" for place in range(len(self.columns))}
        values = []
        for field, type_ in zip(fields, self.columns.values(), strict=True):
            if type_ == "STRING":
                values.append(field)
                continue
            read = f"TRY_CAST({field} AS {TYPES[type_]})"
            good = f"WHEN regexp_full_match({field}, '{PATTERNS[type_]}') AND {read} IS NOT NULL THEN {read}"
            values.append(f"CASE WHEN {field} = '' THEN NULL {good} ELSE error('bad value') END")
        connection.execute("BEGIN")
        try:
            found = connection.execute(
                f"INSERT INTO {target} SELECT {', '.join(values)} FROM read_csv(?, columns = {fields}, header = false, "
                f"skip = {skip}, delim = ',', quote = '\"', escape = '\"', nullstr = '{NO_NULLS}', "
                "auto_detect = false, null_padding = false, strict_mode = true)",
                [str(file.path)],
            ).fetchone()
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            connection.execute("ROLLBACK")
            return False
        if found is None or found[0] != file.lines - skip:
            connection.execute("ROLLBACK")
            return False
        connection.execute("COMMIT")
        return True

    def _rewrite(self, file: CsvFile, target: Path) -> int:
        """Write the rows as plainly as DuckDB wants them; the number of rows."""
        offset = rows = 0
        with file.path.open("rb") as source, target.open("w", newline="", encoding="utf-8") as output:
            writer = csv.writer(output, lineterminator="\n")
            for number, line in enumerate(source):
                if number >= self.skip:
                    rows += 1
                    writer.writerow(self._row(line, offset, rows, file.uri))
                offset += len(line)
        return rows

    def _row(self, line: bytes, offset: int, number: int, uri: str) -> list[str]:
        def fail(message: str) -> GoogleError:
            summary = (
                f"Error while reading table: {self.table}, error message: CSV table encountered too many errors, "
                f"giving up. Rows: {number}; errors: 1. Please look into the errors[] collection for more details."
            )
            return GoogleError("invalid", summary, rows=(f"Error while reading data, error message: {message}",))

        if b"\0" in line:
            message = f"Error detected while parsing row starting at position: {offset}. Error: Bad character (ASCII 0)"
            raise fail(f"{message} encountered. File: {uri}")
        fields = self._fields(line, offset, uri, fail)
        if len(fields) < len(self.columns):
            raise fail(
                f"CSV table references column position {len(fields)}, but line starting at position:{offset} contains "
                f"only {len(fields)} columns. File: {uri}"
            )
        if len(fields) > len(self.columns) and not self.ignore_unknown:
            raise fail(
                f"Too many values in row starting at position: {offset}. Found {len(fields)} column(s) while expected "
                f"{len(self.columns)}. File: {uri}"
            )
        values = []
        for position, ((name, type_), value) in enumerate(zip(self.columns.items(), fields, strict=False)):
            try:
                values.append(READERS[type_](value) if value and type_ in READERS else value)
            except (ValueError, ArithmeticError) as error:
                raise fail(
                    f"Could not parse '{value}' as {type_} for field {name} (position {position}) starting at location "
                    f"{offset} with message '{error.args[0] if type_ == 'NUMERIC' else 'Unable to parse'}' File: {uri}"
                ) from error
        return values

    def _fields(self, line: bytes, offset: int, uri: str, fail: Callable[[str], GoogleError]) -> list[str]:
        content = line.removesuffix(b"\n").removesuffix(b"\r")
        if not content or b"\r" in content:
            raise UnsupportedError(f"an empty line, or a lone carriage return, at byte {offset} of {uri}")
        try:
            decoded = content.decode()
        except UnicodeDecodeError as error:
            raise UnsupportedError(f"a file that is not UTF-8: {uri}") from error
        good = re.match(f"(?:{FIELD},)*", decoded)
        last = decoded[good.end() :] if good else ""
        if re.fullmatch(FIELD, last):
            [fields] = csv.reader([decoded])
            return fields
        if not last.startswith('"'):
            raise UnsupportedError(f"a quote inside a field without quotes, at byte {offset} of {uri}")
        closed = re.match('"(?:[^"]|"")*"', last)
        what = 'Data between close double quote (") and field separator' if closed else 'Missing close double quote (")'
        raise fail(f"Error detected while parsing row starting at position: {offset}. Error: {what}. File: {uri}")


def _integer(value: str) -> str:
    if not re.fullmatch(r"[+-]?\d+", value) or not -(2**63) <= int(value) < 2**63:
        raise ValueError(value)
    return str(int(value))


def _numeric(value: str) -> str:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value):
        raise ValueError(f"Invalid NUMERIC value: {value}")
    number = Decimal(value).normalize(Context(prec=200))
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or exponent < -9 or len(digits) + exponent > 29:
        raise ValueError(f"Invalid NUMERIC value: {value}")
    return format(number, "f")


READERS: dict[str, Callable[[str], str]] = {
    "INT64": _integer,
    "NUMERIC": _numeric,
    "TIMESTAMP": lambda value: str(read_timestamp(value)),
    "DATE": lambda value: str(read_date(value)),
}
