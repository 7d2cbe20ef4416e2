"""Reading a trip file: from gzip to blocks of whole lines, each line checked, nothing guessed.

Whatever is not a row of the colour is refused here with its line and column, before a warehouse sees it.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from taxi_assets.errors import BadTripFileError
from taxi_assets.trips import Color, TripFile, header_difference

BLOCK_BYTES = 1 << 20
LONGEST_LINE = 1 << 16  # a row has some 100 bytes; what never ends is no trip file

# How a field of each type is written. Postgres takes much more for a timestamp or a number ('today', 01/02/2020,
# 0x1F, NaN), which would be a guess.
FIELD_PATTERNS = {
    "text": rb'[^,\n"]*',  # no published file has quotes, which would need another parser
    "timestamp": rb"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)?",
    "integer": rb"(?:-?\d+)?",
    "double precision": rb"(?:-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)?",
}
FIELD_NAMES = {
    "timestamp": "a time like 2020-04-01 00:30:00",
    "integer": "a whole number",
    "double precision": "a number",
}
PLAIN = b"0123456789.,-: \nYN"  # all that nearly every row consists of


class TripCsv:
    """One reading of a trip file.

    Attributes:
        rows: the rows that `blocks` has yielded so far.
        bytes: the bytes of these rows.
    """

    def __init__(self, path: Path, trip_file: TripFile) -> None:
        self.path = path
        self.color: Color = trip_file.color
        self.name = trip_file.gz_name
        self.rows = self.bytes = 0
        self._patterns = [
            re.compile(_pattern(column.type, column.name == self.color.pickup)) for column in self.color.columns
        ]
        self._row = re.compile(b",".join(pattern.pattern for pattern in self._patterns))

    def header(self) -> list[str]:
        """The header's names, as they are.

        Raises:
            BadTripFileError: the file is not gzip, or broken, or empty.
        """
        first = next(self._lines_in_blocks(), b"")
        return first.partition(b"\n")[0].decode("utf-8", "replace").split(",")

    def count(self) -> int:
        """The number of rows, without looking at them; reads the file to its end.

        Raises:
            BadTripFileError: the file is not gzip, or broken, or has no rows.
        """
        for _, rows in self._rows_in_blocks():
            self.rows += rows.count(b"\n")
        return self.rows

    def blocks(self) -> Iterator[bytes]:
        """Yield the rows in blocks of whole lines that end with a line feed, without the header.

        Memory does not grow with the file. Line ends may be CRLF, LF or mixed, the last may be missing, blank lines
        may follow; a byte order mark is skipped.

        Raises:
            BadTripFileError: naming line and column. What was yielded before is then worthless.
        """
        for header, rows in self._rows_in_blocks():
            difference = header_difference(self.color.header, header)
            if difference:
                raise BadTripFileError(
                    f"{self.name} does not have the header of {self.color.name} trips: {difference}."
                )
            self._check(rows)
            self.rows += rows.count(b"\n")
            self.bytes += len(rows)
            yield rows

    def _rows_in_blocks(self) -> Iterator[tuple[list[str], bytes]]:
        """The header with each block of rows; blank lines may only follow the last row."""
        header, blank = None, False
        for block in self._lines_in_blocks():
            if header is None:
                first, _, block = block.partition(b"\n")
                header = first.decode("utf-8", "replace").split(",")
            rows = block.rstrip(b"\n")
            if rows and blank:
                self._refuse("the line is blank, yet rows follow")
            if rows:
                yield header, rows + b"\n"
            blank = blank or len(block) - len(rows) > bool(rows)
        if not self.rows:
            raise BadTripFileError(
                f"{self.name} {'has a header but no rows' if header else 'is empty'}: "
                f"look at what the source delivers under this name."
            )

    def _lines_in_blocks(self) -> Iterator[bytes]:
        """The text in blocks of whole lines, with line feeds for line ends, the header in the first."""
        rest, mark = b"", b"\xef\xbb\xbf"
        for chunk in self._unzipped():
            chunk = rest + chunk
            # A carriage return at the end may belong to a line feed that comes with the next chunk.
            kept_back = b"\r" if chunk.endswith(b"\r") else b""
            chunk = _line_feeds(chunk.removesuffix(b"\r") if kept_back else chunk)
            end = chunk.rfind(b"\n") + 1
            rest = chunk[end:] + kept_back
            if len(rest) > LONGEST_LINE:
                raise BadTripFileError(f"{self.name} has a line of more than {LONGEST_LINE} bytes: it is no trip file.")
            if end:
                yield chunk[:end].removeprefix(mark)
                mark = b""
        if rest := _line_feeds(rest):
            yield rest.removeprefix(mark).removesuffix(b"\n") + b"\n"

    def _unzipped(self) -> Iterator[bytes]:
        try:
            with gzip.open(self.path) as file:
                while chunk := file.read(BLOCK_BYTES):
                    yield chunk
        except EOFError:
            raise BadTripFileError(
                f"{self.name} ends before its gzip trailer: the download broke off; fetch it again."
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            with self.path.open("rb") as file:
                start = file.read(60)
            if start[:2] != b"\x1f\x8b":
                raise BadTripFileError(
                    f"{self.name} is not gzip, it begins with {_shown(start)}: "
                    f"look at what the source delivers under this name."
                ) from None
            raise BadTripFileError(f"{self.name} is broken ({error}): fetch it again.") from None

    def _check(self, rows: bytes) -> None:
        if not self._is_plain(rows):
            for number, line in enumerate(rows[:-1].split(b"\n")):
                if not self._row.fullmatch(line) or b"\0" in line or not _is_utf8(line):
                    self._explain(line, self.rows + 2 + number)

    def _is_plain(self, rows: bytes) -> bool:
        """Whether the rows are surely right: a look at whole blocks, ten times as fast as one at each row.

        False means only that each row has to be looked at. Numbers are left to Postgres' own parser, which refuses
        what is not one once there are plain characters only.
        """
        import numpy as np

        if rows.translate(None, PLAIN):
            return False
        text = np.frombuffer(rows, np.uint8)
        ends = np.flatnonzero(text == ord("\n"))
        commas = np.flatnonzero(text == ord(","))
        separators = len(self.color.columns) - 1
        if len(commas) != separators * len(ends):
            return False
        by_row = commas.reshape(-1, separators)
        if (by_row[1:, 0] < ends[:-1]).any() or (by_row[:, -1] > ends).any():
            return False
        times = 0
        for place, column in enumerate(self.color.columns):
            if column.type != "timestamp":
                continue
            start, length = by_row[:, place - 1] + 1, by_row[:, place] - by_row[:, place - 1] - 1
            if column.name != self.color.pickup:
                start, length = start[length > 0], length[length > 0]
            if (length != 19).any():
                return False
            times += len(start)
            fields = text[start[:, None] + np.arange(19)]
            marks = fields[:, [4, 7, 10, 13, 16]] == np.frombuffer(b"-- ::", np.uint8)
            digits = fields[:, [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]]
            if not (marks.all() and (digits >= ord("0")).all() and (digits <= ord("9")).all()):
                return False
        return rows.count(b" ") == times  # none around a number either

    def _explain(self, line: bytes, number: int) -> NoReturn:
        fields = line.split(b",")
        expected = len(self.color.columns)
        for place, (column, pattern) in enumerate(zip(self.color.columns, self._patterns, strict=True)):
            field = fields[place] if place < len(fields) else b""
            where = f"line {number}, column {column.name}"
            if b"\0" in field:
                self._refuse("there is a NUL byte", where)
            if not _is_utf8(field):
                self._refuse(f"{_shown(field)} is not UTF-8", where)
            if b'"' in field:
                self._refuse("there is a quote, which trip files never have", where)
            if not pattern.fullmatch(field):
                said = f"{_shown(field)} is not {FIELD_NAMES.get(column.type, 'a text')}" if field else "it is empty"
                if len(fields) != expected:
                    said += f"; the row has {len(fields)} fields instead of {expected}"
                self._refuse(said, where)
        where = f"line {number}, column {self.color.columns[min(len(fields), expected) - 1].name}"
        self._refuse(f"the row has {len(fields)} fields instead of {expected}", where)

    def _refuse(self, what: str, where: str | None = None) -> NoReturn:
        where = where or f"line {self.rows + 2}"
        raise BadTripFileError(f"{self.name}, {where}: {what}. Nothing of the file was loaded; mend or fetch it again.")


def _pattern(type_: str, required: bool) -> bytes:
    pattern = FIELD_PATTERNS[type_]
    return pattern.removesuffix(b"?") if required else pattern


def _line_feeds(text: bytes) -> bytes:
    text = text.replace(b"\r\n", b"\n")
    return text.replace(b"\r", b"\n") if b"\r" in text else text


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _shown(text: bytes) -> str:
    """Bytes as they may stand in a message: short, in quotes, nothing unprintable."""
    return repr(text[:40].decode("utf-8", "backslashreplace")) + ("..." if len(text) > 40 else "")
