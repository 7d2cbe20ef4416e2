"""Where trip files come from: the public archive or another web server, a folder, or the generator of samples.

A file appears under its final name only when it is whole; what is known of it is kept beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit, urlunsplit

import dagster as dg

from taxi_assets.errors import NotPublishedError, TaxiError, TransientError
from taxi_assets.resources.settings import setting, taxi_home
from taxi_assets.trip_csv import TripCsv
from taxi_assets.trips import TripFile

if TYPE_CHECKING:
    import requests

# The files that courses use: the TLC itself has published Parquet only since 2022.
ARCHIVE = "https://github.com/DataTalksClub/nyc-tlc-data/releases/download/{color}/{file}"
CHUNK_BYTES = 1 << 18
CONNECT_SECONDS, READ_SECONDS = 10, 60
HEAD_SECONDS = 10
SETTLED_SECONDS = 5
HEAD_REFUSED = (400, 403, 405, 501)  # by servers, and by signed addresses, that answer GET alone

Progress = Callable[[int, "int | None"], None]  # bytes so far, and of how many where that is known


@dataclass(frozen=True)
class RawFile:
    """A fetched trip file and what is known of it.

    Attributes:
        source: where it came from, without passwords.
        version: what tells this edition of the file from another at the source (ETag, times, length).
        rows: the number of its rows, counted when it was fetched.
        fetched: False where it was there already.
    """

    path: Path
    source: str
    version: dict[str, str]
    bytes: int
    sha256: str
    rows: int
    fetched: bool = True

    @classmethod
    def at(cls, path: Path) -> RawFile | None:
        """What was noted of the file when it was fetched, or None where there is no whole file."""
        raw_file = cls.noted(path)
        return raw_file if raw_file and path.exists() and path.stat().st_size == raw_file.bytes else None

    @classmethod
    def noted(cls, path: Path) -> RawFile | None:
        """The same, also where the file was purged."""
        try:
            return cls(path=path, **json.loads(_notes(path).read_text()), fetched=False)
        except (FileNotFoundError, ValueError, TypeError):
            return None

    @property
    def edition(self) -> str:
        """One word for `version`; empty where the source tells no editions apart."""
        return _edition(self.version)

    def note(self) -> None:
        """Keep what is known of the file beside it."""
        noted = {name: getattr(self, name) for name in ("source", "version", "bytes", "sha256", "rows")}
        _notes(self.path).write_text(json.dumps(noted, indent=2))

    def purge(self) -> None:
        """Delete the file; what is noted of it stays, for the checks."""
        self.path.unlink(missing_ok=True)


class TripSource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Fetches trip files into the raw folder of the installation.

    Attributes:
        location: a folder; a URL with `{file}` and, if needed, `{color}`; or `sample`. Unset: `TAXI_SOURCE`, else
            the public archive.
        attempts: how often a download is tried before it fails.
        backoff_seconds: the pause before the second attempt; it doubles from one to the next.
    """

    location: str | None = None
    attempts: int = 5
    backoff_seconds: float = 1.0

    def raw_path(self, trip_file: TripFile) -> Path:
        """Where the fetched file is kept."""
        return taxi_home() / "raw" / trip_file.color.name / trip_file.gz_name

    def raw_file(self, trip_file: TripFile) -> RawFile:
        """The file as it was fetched.

        Raises:
            TaxiError: it was not fetched yet.
        """
        raw_file = RawFile.at(self.raw_path(trip_file))
        if raw_file is None:
            raise TaxiError(
                f"{self.raw_path(trip_file)} is not there: materialize raw_trips for {trip_file.partition_key} first."
            )
        return raw_file

    def noted(self, trip_file: TripFile) -> RawFile | None:
        """What was noted of the file when it was fetched last, also where it was purged; None if it never was."""
        return RawFile.noted(self.raw_path(trip_file))

    def raw_rows(self, trip_file: TripFile) -> int:
        """The rows of the file as it was fetched last, also where it was purged.

        Raises:
            TaxiError: it was never fetched.
        """
        return (self.noted(trip_file) or self.raw_file(trip_file)).rows

    def published(self, trip_file: TripFile) -> str:
        """The edition of the file that the source has now, without fetching it; compare with `RawFile.edition`.

        Raises:
            NotPublishedError: the source does not have the file.
            TransientError: the source does not answer.
            TaxiError: the source is no source, or does not let us see.
        """
        version = self._origin(trip_file).version()
        if 0 <= time.time() - int(version.get("mtime_ns", 0)) / 1e9 < SETTLED_SECONDS:
            raise NotPublishedError(f"{trip_file.gz_name} has just changed: somebody may still be writing it.")
        return _edition(version)

    @property
    def kind(self) -> Literal["sample", "folder", "web"]:
        """What kind of source it is: looking into a folder costs nothing, asking a web server does."""
        location = self._location()
        return "sample" if location == "sample" else "web" if "://" in location else "folder"

    def fetch(self, trip_file: TripFile, progress: Progress | None = None) -> RawFile:
        """Fetch a file, unless it is there and the source has no other edition of it.

        Raises:
            TaxiError: the source does not have it, or the disk is full.
            BadTripFileError: what the source has is no trip file.
            TransientError: the network failed, however often it was tried.
        """
        path = self.raw_path(trip_file)
        part = path.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return self._fetch(trip_file, path, part, progress or _silent)
        except OSError as error:
            raise TaxiError(
                f"{trip_file.gz_name} could not be written to {path.parent} ({error.strerror or error}): "
                f"make room or mend the folder, then run this again."
            ) from error

    def _fetch(self, trip_file: TripFile, path: Path, part: Path, progress: Progress) -> RawFile:
        with _locked(path.with_suffix(".lock")):  # another run may want the same file
            origin = self._origin(trip_file)
            known = RawFile.at(path)
            try:
                version = origin.copy_to(
                    part, known.version if known and known.source == origin.source else None, progress
                )
                if version is None and known:
                    return known
                raw_file = RawFile(
                    path=path, source=origin.source, version=version or {}, bytes=part.stat().st_size,
                    sha256=_sha256(part), rows=TripCsv(part, trip_file).count(),
                )  # fmt: skip
                _notes(path).unlink(missing_ok=True)
                part.replace(path)
                raw_file.note()
                return raw_file
            finally:
                part.unlink(missing_ok=True)

    def _location(self) -> str:
        return self.location or setting("TAXI_SOURCE") or ARCHIVE

    def _origin(self, trip_file: TripFile) -> _Origin:
        location = self._location()
        if self.kind == "sample":
            return _Sample(trip_file)
        if self.kind == "folder":
            return _Folder(Path(location).expanduser(), trip_file)
        try:
            url = location.format(color=trip_file.color.name, file=trip_file.gz_name)
        except (KeyError, IndexError, ValueError):
            url = location
        if trip_file.gz_name not in url:
            raise TaxiError(
                f"TAXI_SOURCE {redacted(location)} is not a URL with {{file}} in it: "
                f"write it like https://example.org/{{color}}/{{file}}."
            )
        return _Web(url, trip_file, self.attempts, self.backoff_seconds)


class _Origin(Protocol):
    """One file at its source. `source` names it to people, without passwords."""

    source: str

    def version(self) -> dict[str, str]:
        """What tells the edition that is there now from another."""

    def copy_to(self, part: Path, known: dict[str, str] | None, progress: Progress) -> dict[str, str] | None:
        """Write the file to `part` and return its version; None, with nothing written, if that is `known`."""


class _Sample:
    def __init__(self, trip_file: TripFile) -> None:
        self.trip_file, self.source = trip_file, "sample"

    def version(self) -> dict[str, str]:
        from taxi_assets.sample import GENERATOR_VERSION, sample_rows

        return {"generator": GENERATOR_VERSION, "rows": str(sample_rows(self.trip_file))}

    def copy_to(self, part: Path, known: dict[str, str] | None, progress: Progress) -> dict[str, str] | None:
        from taxi_assets.sample import write_sample

        version = self.version()
        if version == known:
            return None
        write_sample(self.trip_file, part)
        return version


class _Folder:
    """Files lie in the folder itself or in one for each color, zipped as published or not."""

    def __init__(self, folder: Path, trip_file: TripFile) -> None:
        if not folder.is_dir():
            raise TaxiError(
                f"TAXI_SOURCE {folder.absolute()} is not a folder: make it one, or set TAXI_SOURCE to a URL with "
                f"{{file}} in it, or to 'sample'."
            )
        names = [trip_file.gz_name, trip_file.csv_name]
        places = [folder / name for name in names] + [folder / trip_file.color.name / name for name in names]
        for place in places:
            if place.is_file():
                self.path, self.source = place, str(place)
                return
        raise NotPublishedError(
            f"{trip_file.gz_name} is not in {folder.absolute()}: put it there, or set TAXI_SOURCE to where it is."
        )

    def version(self) -> dict[str, str]:
        state = self.path.stat()
        return {"mtime_ns": str(state.st_mtime_ns), "length": str(state.st_size)}

    def copy_to(self, part: Path, known: dict[str, str] | None, progress: Progress) -> dict[str, str] | None:
        version = self.version()
        if version == known:
            return None
        with self.path.open("rb") as file, contextlib.ExitStack() as stack:
            out: IO[bytes] | gzip.GzipFile = stack.enter_context(part.open("wb"))
            if self.path.suffix == ".csv":  # raw files are gzip, whatever the source has
                out = stack.enter_context(gzip.GzipFile(part.stem, "wb", compresslevel=1, fileobj=out, mtime=0))
            done = 0
            while chunk := file.read(CHUNK_BYTES):
                out.write(chunk)
                progress(done := done + len(chunk), int(version["length"]))
        return version


class _Web:
    """A web server. What breaks on the way is tried again from the byte where it broke, with growing pauses."""

    def __init__(self, url: str, trip_file: TripFile, attempts: int, backoff_seconds: float) -> None:
        self.url, self.source, self.name = url, redacted(url), trip_file.gz_name
        self.attempts, self.backoff_seconds = attempts, backoff_seconds

    def version(self) -> dict[str, str]:
        import requests

        plain = {"Accept-Encoding": "identity"}
        seconds = (CONNECT_SECONDS, HEAD_SECONDS)
        try:
            response = requests.head(self.url, headers=plain, allow_redirects=True, timeout=seconds)
            if response.status_code in HEAD_REFUSED:
                one_byte = plain | {"Range": "bytes=0-0"}
                with requests.get(self.url, headers=one_byte, stream=True, timeout=seconds) as response:
                    pass
            self._refuse(response)
        except requests.TooManyRedirects:
            raise TaxiError(
                f"{self.source} sends us from one address to the next without end: check TAXI_SOURCE."
            ) from None
        except (requests.RequestException, _BrokenOffError) as error:
            raise TransientError(f"{self.source} does not answer ({_cause(error)}): it is asked again later.") from None
        return _version(response)

    def copy_to(self, part: Path, known: dict[str, str] | None, progress: Progress) -> dict[str, str] | None:
        import requests
        import urllib3

        version: dict[str, str] = {}
        for attempt in range(self.attempts):
            if attempt:  # half of the pause by chance, so that runs that broke together do not come back together
                time.sleep(self.backoff_seconds * 2 ** (attempt - 1) * random.uniform(0.5, 1))  # noqa: S311
            done = part.stat().st_size if part.exists() else 0
            try:
                with self._get(known if not done else None, version, done) as response:
                    if response.status_code == 304:
                        return None
                    if response.status_code == 416:  # the file at the source is shorter than what we have of it
                        part.unlink()
                        raise _BrokenOffError("it changed at the source")
                    self._refuse(response)
                    found = _version(response)
                    if found and found == known:  # a server that knows no conditions
                        return None
                    resumed = response.status_code == 206
                    version, done = (version, done) if resumed else (found, 0)
                    length = int(response.headers.get("Content-Length") or -1)
                    total = done + length if length >= 0 else None
                    with part.open("ab" if resumed else "wb") as out:
                        # As the bytes came: a server that calls the file's gzip its transport would have it unzipped.
                        while chunk := response.raw.read(CHUNK_BYTES, decode_content=False):
                            out.write(chunk)
                            progress(done := done + len(chunk), total)
                    if total is not None and done != total:
                        raise _BrokenOffError(f"{done} of {total} bytes came")
                    return version
            except (requests.RequestException, urllib3.exceptions.HTTPError, _BrokenOffError) as error:
                cause = _cause(error)
        raise TransientError(
            f"{self.name} could not be fetched from {self.source} in {self.attempts} attempts ({cause}): "
            f"run this again later."
        )

    def _get(self, known: dict[str, str] | None, version: dict[str, str], done: int) -> requests.Response:
        import requests

        headers = {"Accept-Encoding": "identity"}
        if done and (unchanged := version.get("etag") or version.get("last_modified")):
            headers |= {"Range": f"bytes={done}-", "If-Range": unchanged}
        elif known and "etag" in known:
            headers["If-None-Match"] = known["etag"]
        elif known and "last_modified" in known:
            headers["If-Modified-Since"] = known["last_modified"]
        return requests.get(self.url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))

    def _refuse(self, response: requests.Response) -> None:
        status = response.status_code
        if status in (404, 410):
            raise NotPublishedError(
                f"{self.name} is not at {self.source} (HTTP {status}): it may not be published yet; "
                f"check the month, or set TAXI_SOURCE to where it is."
            )
        if status == 429 or status >= 500:
            raise _BrokenOffError(f"HTTP {status}")
        if status not in (200, 206):
            raise TaxiError(
                f"{self.source} answers HTTP {status} ({response.reason}) for {self.name}: "
                f"check TAXI_SOURCE and your right to read it."
            )


class _BrokenOffError(Exception):
    """A download that may work at the next attempt."""


def _edition(version: Mapping[str, str]) -> str:
    named = version.get("etag") or version.get("last_modified")
    return (named or "-".join(version.values())).removeprefix("W/").strip('"')


def _version(response: requests.Response) -> dict[str, str]:
    names = {"etag": "ETag", "last_modified": "Last-Modified"}
    version = {key: response.headers[name] for key, name in names.items() if name in response.headers}
    return version | {"length": response.headers.get("Content-Length", "")} if version else {}


def _cause(error: Exception) -> str:
    """What is behind a chain of wrapped network errors, without the address it happened at."""
    import requests

    if isinstance(error, _BrokenOffError):
        return str(error)
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return f"{type(error).__name__}: {error.strerror or error}" if isinstance(error, OSError) else type(error).__name__


def redacted(url: str) -> str:
    """A URL that may be shown: without user, password and the values of its query, which may be signatures."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    query = "&".join(f"{pair.partition('=')[0]}=..." for pair in parts.query.split("&")) if parts.query else ""
    return urlunsplit((parts.scheme, host, parts.path, query, ""))


def _silent(done: int, total: int | None) -> None:
    pass


def _notes(path: Path) -> Path:
    return path.with_suffix(".json")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
