"""Cloud Storage: trip files into the bucket, whole, once, and compared with the file on disk.

Everything that talks to the bucket goes through `CloudStorage`; what goes wrong there comes back as one sentence.
"""

from __future__ import annotations

import base64
import gzip
import random
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from taxi_assets.errors import TaxiError, TransientError
from taxi_assets.resources.gcp import GoogleCloud, account, told
from taxi_assets.trips import TripFile

if TYPE_CHECKING:
    from google.cloud import storage

CHUNK_BYTES = 32 << 20  # sent, and held in memory, at once; a multiple of 256 KiB, as resumable uploads ask for
READ_BYTES = 1 << 20
MARK = "taxi"  # in the metadata of every object that this project makes; its value is the color
REQUEST_SECONDS = 60.0  # for which one request is tried again before the upload is looked at anew


@dataclass(frozen=True)
class Uploaded:
    """A file in the bucket.

    Attributes:
        bytes: of the object.
        crc32c: of its bytes, in base64, equal on disk and in the bucket.
        sent: False where it was there already.
    """

    uri: str
    bytes: int
    crc32c: str
    generation: int
    sent: bool
    seconds: float


class CloudStorage(GoogleCloud):
    """The bucket.

    Attributes:
        attempts: how often an upload is tried before it fails.
        backoff_seconds: the pause before the second attempt; it doubles from one to the next.
    """

    attempts: int = 5
    backoff_seconds: float = 1.0

    @contextmanager
    def client(self) -> Iterator[storage.Client]:
        """A client of the project; Google's errors come out of the block as one sentence.

        Raises:
            TaxiError: what Google refused, or there is no account.
            TransientError: Google did not answer.
        """
        from google.cloud import storage

        with told():
            client = storage.Client(self.settings.project, account("STORAGE_EMULATOR_HOST"))
            try:
                yield client
            finally:
                client.close()

    def object_name(self, trip_file: TripFile) -> str:
        """The name of the file in the bucket, as it is published or unzipped."""
        return trip_file.gz_name if self.settings.upload_gzip else trip_file.csv_name

    def uri(self, trip_file: TripFile) -> str:
        """Where the file is for BigQuery."""
        return f"gs://{self.settings.bucket}/{self.object_name(trip_file)}"

    def upload(
        self, trip_file: TripFile, path: Path, progress: Callable[[int, int | None], None] | None = None
    ) -> Uploaded:
        """Put a trip file into the bucket, unless an equal one is there.

        Bytes are streamed, and the object appears when it is whole. Another writer's object is never overwritten
        unseen: each attempt names the generation that it replaces.

        Args:
            trip_file: names the object.
            path: the gzip file.
            progress: called with the bytes sent so far, and of how many.

        Raises:
            TaxiError: the bucket is not there, or does not let us write, or has somebody else's object of this name.
            TransientError: the upload broke off, however often it was tried.
        """
        started = time.monotonic()
        with self.client() as client:
            bucket = client.bucket(self.settings.bucket)
            ours: tuple[int, str] | None = None  # what is to be there: the number of bytes and their checksum
            sent, problem = False, ""
            for attempt in range(self.attempts + 1):
                if problem:
                    time.sleep(self.backoff_seconds * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311
                # Looked at after each attempt: where one failed, its last answer may be all that was lost.
                there = bucket.get_blob(self.object_name(trip_file))
                if there:
                    ours = ours or self._read(path)
                    if (there.size, there.crc32c) == ours:
                        return Uploaded(
                            uri=self.uri(trip_file), bytes=there.size, crc32c=there.crc32c,
                            generation=there.generation, sent=sent, seconds=time.monotonic() - started,
                        )  # fmt: skip
                    if MARK not in (there.metadata or {}):
                        raise TaxiError(
                            f"{self.uri(trip_file)} is there already, put there by somebody else: rename it, or set "
                            f"GCP_BUCKET_NAME to another bucket."
                        )
                if attempt < self.attempts:
                    sent = True
                    with self._opened(path, progress) as file:
                        problem = self._send(bucket, trip_file, file, there.generation if there else 0)
                        ours = ours if problem else file.measured()
        raise TransientError(f"{trip_file.gz_name} could not be uploaded ({problem}): run this again later.")

    def _read(self, path: Path) -> tuple[int, str]:
        with self._opened(path, None) as file:
            while file.read(READ_BYTES):
                pass
            return file.measured()

    @contextmanager
    def _opened(self, path: Path, progress: Callable[[int, int | None], None] | None) -> Iterator[_Measured]:
        """The bytes that go to the bucket: those of the file, or what is zipped in it."""
        with ExitStack() as stack:
            with _readable(path):
                file: IO[bytes] = stack.enter_context(path.open("rb"))
            yield _Measured(path, file, self.settings.upload_gzip, progress)

    def _send(self, bucket: storage.Bucket, trip_file: TripFile, file: _Measured, generation: int) -> str:
        """One attempt; returns what went wrong if another one may help, empty if nothing did."""
        import requests
        from google.api_core.exceptions import GoogleAPICallError, NotFound, PreconditionFailed, RetryError
        from google.auth.exceptions import TransportError
        from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
        from google.cloud.storage.retry import DEFAULT_RETRY

        zipped = self.settings.upload_gzip
        blob = bucket.blob(self.object_name(trip_file), chunk_size=CHUNK_BYTES)
        blob.metadata = {MARK: trip_file.color.name}
        try:
            blob.upload_from_file(
                file,
                size=file.size if zipped else None,
                content_type="application/gzip" if zipped else "text/csv",
                if_generation_match=generation,
                checksum="crc32c",
                retry=DEFAULT_RETRY.with_timeout(REQUEST_SECONDS),
            )
        except PreconditionFailed:
            return "another upload of the same file was faster"
        except (requests.RequestException, ConnectionError, TransportError, RetryError, InvalidResponse) as error:
            return f"the connection broke, {type(error).__name__}"
        except DataCorruption:
            return "it arrived with another checksum"
        except NotFound:
            if bucket.exists():
                return "the upload was forgotten"
            raise TaxiError(f"The bucket {bucket.name} is not there: `taxi gcp setup` makes it.") from None
        except GoogleAPICallError as error:
            if error.code and error.code >= 500:
                return f"Google answered {error.code}"
            raise
        return ""


class _Measured:
    """A file that counts and sums up the bytes that are read from it, and tells how far it is.

    Attributes:
        size: of the file on disk, by which progress is told.
    """

    def __init__(
        self, path: Path, file: IO[bytes], zipped: bool, progress: Callable[[int, int | None], None] | None
    ) -> None:
        import google_crc32c

        self.path, self.size = path, path.stat().st_size
        self._on_disk, self._progress = file, progress
        self._file = file if zipped else gzip.GzipFile(fileobj=file)
        self._read, self._checksum = 0, google_crc32c.Checksum()

    def read(self, size: int = -1) -> bytes:
        with _readable(self.path):
            data = self._file.read(size)
        self._read += len(data)
        self._checksum.update(data)
        if self._progress:
            self._progress(self._on_disk.tell(), self.size)
        return data

    def tell(self) -> int:
        return self._read

    def measured(self) -> tuple[int, str]:
        """The number of bytes, and their crc32c in base64 as Cloud Storage writes it."""
        return self._read, base64.b64encode(self._checksum.digest()).decode()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError, zlib.error) as error:
        raise TaxiError(f"{path} cannot be read ({error}): materialize raw_trips again.") from error
