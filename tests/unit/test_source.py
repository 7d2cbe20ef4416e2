"""Fetching from a folder, from samples, and from a real web server on this machine that breaks in every way."""

import gzip
import hashlib
import http.server
import json
import os
import threading
from pathlib import Path

import pytest

from taxi_assets.errors import BadTripFileError, NotPublishedError, TaxiError, TransientError
from taxi_assets.resources.source import RawFile, TripSource, redacted
from taxi_assets.sample import write_sample
from taxi_assets.trips import TripFile

GREEN = TripFile.of("green", "2020-04")


class Web(http.server.ThreadingHTTPServer):
    """A web server with one file and a script of answers: one for each request, the last for all further ones."""

    def __init__(self, data: bytes, *script: str) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.data, self.script, self.etag = data, list(script), '"v1"'
        self.head = "ok"  # the answer to each HEAD
        self.requests: list[dict[str, str]] = []
        self.url = f"http://user:secret@127.0.0.1:{self.server_port}/{{color}}/{{file}}?sig=secret"


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def do_GET(self) -> None:
        server = self.server
        server.requests.append({"path": self.path, **dict(self.headers.items())})
        what = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        if what.isdigit():
            self.answer(int(what), b"<html>no</html>")
        elif what == "reset":
            self.close_connection = True
            self.connection.close()
        elif what.startswith("break"):  # the connection ends before the last byte
            self.answer(200, server.data, stop=int(what.removeprefix("break")))
        elif what == "break206":
            raise AssertionError
        elif what == "plain":  # knows neither ranges nor conditions nor versions
            self.answer(200, server.data, versioned=False)
        elif what == "no conditions":
            self.answer(200, server.data)
        elif self.headers.get("If-None-Match") == server.etag:
            self.answer(304, b"")
        elif self.headers.get("Range") and self.headers.get("If-Range") == server.etag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self.answer(206, server.data[start:])
        else:
            self.answer(200, server.data)

    def do_HEAD(self) -> None:
        self.server.requests.append({"method": "HEAD"})
        what = self.server.head
        self.send_response(302 if what == "loop" else int(what) if what.isdigit() else 200)
        if what == "loop":
            self.send_header("Location", self.path)
        if what == "ok":
            self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, status: int, body: bytes, stop: int | None = None, versioned: bool = True) -> None:
        self.send_response(status)
        if versioned:
            self.send_header("ETag", self.server.etag)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:stop])
        if stop is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def data(green):
    return green[1].read_bytes()


@pytest.fixture
def serve(data):
    servers = []

    def start(*script, body=data):
        server = Web(body, *script)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server, TripSource(location=server.url, backoff_seconds=0.01)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def raw(home):
    return home / "raw" / "green" / GREEN.gz_name


def test_a_file_is_fetched_once(serve, data, raw):
    server, source = serve("ok")
    fetched = source.fetch(GREEN)
    assert fetched.path == raw
    assert raw.read_bytes() == data
    assert (fetched.rows, fetched.bytes, fetched.fetched) == (2000, len(data), True)
    assert fetched.sha256 == hashlib.sha256(data).hexdigest()
    assert server.requests[0]["path"] == f"/green/{GREEN.gz_name}?sig=secret"

    again = source.fetch(GREEN)
    assert not again.fetched
    assert (again.rows, again.sha256, again.version) == (fetched.rows, fetched.sha256, fetched.version)
    assert len(server.requests) == 2
    stem = "green_tripdata_2020-04.csv"
    assert {path.name for path in raw.parent.iterdir()} == {f"{stem}.gz", f"{stem}.json", f"{stem}.lock"}


def test_no_secret_is_kept_or_shown(serve, raw):
    _, source = serve("ok")
    fetched = source.fetch(GREEN)
    assert "secret" not in repr(fetched)
    assert "secret" not in raw.with_suffix(".json").read_text()
    _, source = serve("404")
    with pytest.raises(TaxiError) as refused:
        source.fetch(GREEN)
    assert "secret" not in str(refused.value)


def test_a_server_without_conditions_is_asked_but_not_read_again(serve, raw):
    _, source = serve("no conditions")
    assert source.fetch(GREEN).fetched
    written = raw.stat().st_mtime_ns
    assert not source.fetch(GREEN).fetched
    assert raw.stat().st_mtime_ns == written


def test_a_server_without_versions_is_read_again(serve):
    _, source = serve("plain")
    assert source.fetch(GREEN).fetched
    assert source.fetch(GREEN).fetched


def test_another_edition_is_fetched(serve, tmp_path):
    server, source = serve("ok")
    source.fetch(GREEN)
    write_sample(GREEN, tmp_path / "new", rows=3000)
    server.data, server.etag = (tmp_path / "new").read_bytes(), '"v2"'
    fetched = source.fetch(GREEN)
    assert (fetched.fetched, fetched.rows) == (True, 3000)


def test_another_source_is_fetched(serve, home):
    _, source = serve("ok")
    source.fetch(GREEN)
    assert TripSource(location="sample").fetch(GREEN).rows == 12_000


@pytest.mark.parametrize(
    "script", [("503", "ok"), ("reset", "ok"), ("429", "500", "502", "504", "ok"), ("break100", "reset", "ok")]
)
def test_what_may_pass_is_tried_again(serve, data, raw, script):
    server, source = serve(*script)
    assert source.fetch(GREEN).rows == 2000
    assert raw.read_bytes() == data
    assert len(server.requests) == len(script)


def test_a_broken_download_goes_on_where_it_broke(serve, data, raw):
    server, source = serve("break20000", "ok")
    source.fetch(GREEN)
    assert server.requests[1]["Range"] == "bytes=20000-"
    assert raw.read_bytes() == data


def test_a_file_that_changed_meanwhile_is_not_mixed(serve, data, raw, tmp_path):
    server, source = serve("break20000", "ok")
    write_sample(GREEN, tmp_path / "new", rows=3000)

    def change(done, total):
        server.data, server.etag = (tmp_path / "new").read_bytes(), '"v2"'

    assert source.fetch(GREEN, progress=change).rows == 3000
    assert raw.read_bytes() == server.data


def test_a_download_that_never_ends_well(serve, raw):
    server, source = serve("break20000", "break20000", "break20000", "break20000", "break20000")
    with pytest.raises(TransientError, match="could not be fetched .* in 5 attempts"):
        source.fetch(GREEN)
    assert len(server.requests) == 5
    assert not raw.exists()
    assert not list(raw.parent.glob("*.part"))


def test_a_server_that_is_not_there(home):
    source = TripSource(location="http://127.0.0.1:9/{file}", backoff_seconds=0.01)
    with pytest.raises(TransientError, match="Connection refused"):
        source.fetch(GREEN)


@pytest.mark.parametrize("status", [404, 410])
def test_a_missing_file_is_not_asked_for_again(serve, raw, status):
    server, source = serve(str(status))
    with pytest.raises(TaxiError) as refused:
        source.fetch(GREEN)
    assert not isinstance(refused.value, TransientError)
    assert len(server.requests) == 1
    for part in (GREEN.gz_name, f"127.0.0.1:{server.server_port}/green/", "may not be published yet"):
        assert part in str(refused.value)
    assert not raw.exists()


def test_a_forbidden_file(serve):
    server, source = serve("403")
    with pytest.raises(TaxiError, match="HTTP 403"):
        source.fetch(GREEN)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "is not gzip"),
        (b"", "is empty"),
        (gzip.compress(b"a,b\r\n", mtime=0), "has a header but no rows"),
    ],
)
def test_what_is_no_trip_file_is_not_kept(serve, raw, body, said):
    _, source = serve("ok", body=body)
    with pytest.raises(BadTripFileError, match=said):
        source.fetch(GREEN)
    assert not raw.exists()
    assert not list(raw.parent.glob("*.part"))


def test_a_truncated_file_is_not_kept(serve, data, raw):
    _, source = serve("ok", body=data[:-100])
    with pytest.raises(BadTripFileError, match="ends before its gzip trailer"):
        source.fetch(GREEN)
    assert not raw.exists()


def test_a_bad_edition_leaves_the_good_one(serve, data, raw):
    server, source = serve("ok")
    source.fetch(GREEN)
    server.data, server.etag = data[:-100], '"v2"'
    with pytest.raises(BadTripFileError):
        source.fetch(GREEN)
    assert raw.read_bytes() == data


def test_a_full_disk(serve, raw):
    _, source = serve("ok")
    raw.parent.mkdir(parents=True)
    raw.with_suffix(".part").symlink_to("/dev/full")
    with pytest.raises(TaxiError, match="No space left on device.*make room"):
        source.fetch(GREEN)
    assert not raw.exists()


def test_progress_is_told(serve, data, home):
    _, source = serve("ok")
    told = []
    source.fetch(GREEN, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(data), len(data))


@pytest.mark.parametrize("place", ["{gz}", "{csv}", "green/{gz}", "green/{csv}"])
def test_folder(green, green_text, home, tmp_path, place):
    folder = tmp_path / "folder"
    path = folder / place.format(gz=GREEN.gz_name, csv=GREEN.csv_name)
    path.parent.mkdir(parents=True)
    path.write_bytes(green[1].read_bytes() if path.suffix == ".gz" else green_text)
    source = TripSource(location=str(folder))
    fetched = source.fetch(GREEN)
    assert (fetched.rows, fetched.source) == (2000, str(path))
    assert gzip.decompress(fetched.path.read_bytes()) == green_text
    assert not source.fetch(GREEN).fetched
    path.touch()
    assert source.fetch(GREEN).fetched


def test_folder_without_the_file(tmp_path, home):
    with pytest.raises(TaxiError, match=r"green_tripdata_2020-04.csv.gz is not in .*put it there"):
        TripSource(location=str(tmp_path)).fetch(GREEN)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("/nowhere", "/nowhere is not a folder"),
        ("https://user:secret@example.org/trips", r"is not a URL with \{file\} in it"),
        ("https://example.org/{month}", r"is not a URL with \{file\} in it"),
    ],
)
def test_wrong_location(home, location, said):
    with pytest.raises(TaxiError, match=said) as refused:
        TripSource(location=location).fetch(GREEN)
    assert "secret" not in str(refused.value)


def test_location_from_the_environment(home, green, monkeypatch):
    monkeypatch.setenv("TAXI_SOURCE", str(green[1].parent))
    assert TripSource().fetch(GREEN).rows == 2000


def test_two_at_once_fetch_once(serve, home):
    _, source = serve("ok")
    results: list[RawFile] = []
    threads = [threading.Thread(target=lambda: results.append(source.fetch(GREEN))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.fetched for result in results) == [False, False, False, True]


def test_purged_file_leaves_its_notes(home):
    source = TripSource(location="sample")
    source.fetch(GREEN).purge()
    assert source.raw_rows(GREEN) == 12_000
    with pytest.raises(TaxiError, match="materialize raw_trips for green|2020-04 first"):
        source.raw_file(GREEN)
    assert source.fetch(GREEN).fetched


def test_notes_of_a_file_that_was_replaced_by_hand(home):
    source = TripSource(location="sample")
    path = source.fetch(GREEN).path
    path.write_bytes(b"short")
    assert RawFile.at(path) is None
    path.with_suffix(".json").write_text(json.dumps({"rows": 1}))
    assert source.fetch(GREEN).rows == 12_000


def test_redacted():
    shown = "https://example.org:8080/a/b.gz?sig=...&x=..."
    assert redacted("https://user:secret@example.org:8080/a/b.gz?sig=secret&x=1#f") == shown
    assert redacted("https://example.org/a") == "https://example.org/a"


def test_default_is_the_public_archive(home):
    origin = TripSource()._origin(GREEN)
    assert origin.source == f"https://github.com/DataTalksClub/nyc-tlc-data/releases/download/green/{GREEN.gz_name}"


def test_raw_path_is_below_the_home(home):
    assert TripSource().raw_path(GREEN) == Path(home) / "raw" / "green" / GREEN.gz_name


def test_what_is_published_is_seen_without_fetching(serve, raw):
    server, source = serve("ok")
    assert source.published(GREEN) == "v1"
    assert server.requests == [{"method": "HEAD"}]
    assert source.fetch(GREEN).edition == "v1"
    server.etag = '"v2"'
    assert source.published(GREEN) == "v2"


@pytest.mark.parametrize("head", ["400", "403", "405", "501"])
def test_a_server_that_answers_get_alone(serve, head):
    server, source = serve("ok")
    server.head = head
    assert source.published(GREEN) == "v1"
    assert server.requests[1]["Range"] == "bytes=0-0"


def test_a_server_that_tells_no_editions_apart(serve, raw):
    server, source = serve("plain")
    server.head = "no etag"
    assert source.published(GREEN) == source.fetch(GREEN).edition == ""


@pytest.mark.parametrize(
    ("head", "get", "error", "said"),
    [
        ("404", "ok", NotPublishedError, "is not at http://127.0.0.1"),
        ("405", "404", NotPublishedError, "is not at http://127.0.0.1"),
        ("403", "403", TaxiError, "answers HTTP 403 (Forbidden)"),
        ("503", "ok", TransientError, "does not answer (HTTP 503)"),
        ("loop", "ok", TaxiError, "sends us from one address to the next without end"),
    ],
)
def test_what_a_server_may_answer_instead(serve, head, get, error, said):
    server, source = serve(get)
    server.head = head
    with pytest.raises(error) as told:
        source.published(GREEN)
    assert type(told.value) is error
    assert said in str(told.value)
    assert "secret" not in str(told.value)


def test_a_server_that_is_down(serve):
    server, source = serve("ok")
    server.shutdown()
    server.server_close()
    with pytest.raises(TransientError, match="does not answer \\(ConnectionRefusedError: Connection refused\\)"):
        source.published(GREEN)


def test_what_a_folder_has(green, home):
    path = green[1]
    source = TripSource(location=str(path.parent))
    with pytest.raises(NotPublishedError, match="may still be writing"):
        source.published(GREEN)
    os.utime(path, (1e9, 1e9))
    first = source.published(GREEN)
    assert first == source.fetch(GREEN).edition
    os.utime(path, (1e9, 1e9 + 1))
    assert source.published(GREEN) != first
    path.unlink()
    with pytest.raises(NotPublishedError, match="put it there"):
        source.published(GREEN)


@pytest.mark.parametrize(
    ("location", "kind"), [(None, "web"), ("sample", "sample"), ("/data", "folder"), ("https://x.org/{file}", "web")]
)
def test_kinds_of_sources(location, kind):
    assert TripSource(location=location).kind == kind
