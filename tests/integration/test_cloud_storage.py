"""Uploads by Google's own client: whole, once, never over somebody else's object, however the network behaves."""

import base64
import os
import threading
import zlib

import google_crc32c
import pytest

from taxi_assets.errors import TaxiError, TransientError
from taxi_assets.resources import cloud_storage as module
from taxi_assets.resources.postgres import Postgres
from taxi_assets.trips import TripFile
from tests.integration.cloud import services
from tests.proxies import proxied

GREEN = TripFile.of("green", "2020-04")


@pytest.fixture
def upload(password_server, cloud):
    """Uploads through a proxy, if one is given."""
    postgres = Postgres(url=password_server.make_database())

    def upload(path, attempts=5):
        return services(postgres, attempts=attempts)[0].upload(GREEN, path)

    return upload


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file of several chunks."""
    monkeypatch.setattr(module, "CHUNK_BYTES", 1 << 20)
    path = tmp_path / "large.gz"
    path.write_bytes(os.urandom(9 << 20))  # beyond 8 MiB the client sends chunks
    return path


def content(cloud):
    return cloud.storage.bucket(cloud.bucket).blob(GREEN.gz_name).download_as_bytes(raw_download=True)


def is_upload(asked):
    return asked.path.startswith("/upload/") or "/resumable/upload" in asked.path


def test_what_arrives_is_what_is_on_disk(upload, cloud, green, large):
    for path in (green[1], large):
        uploaded = upload(path)
        assert uploaded.sent
        assert uploaded.bytes == path.stat().st_size
        assert uploaded.crc32c == base64.b64encode(google_crc32c.Checksum(path.read_bytes()).digest()).decode()
        assert content(cloud) == path.read_bytes()


def test_an_equal_object_is_not_sent_again(upload, cloud, green, monkeypatch):
    first = upload(green[1])
    with proxied(cloud.storage_url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        again = upload(green[1])
        assert {asked.method for asked in proxy.asked} == {"GET"}
    assert not again.sent
    assert again.generation == first.generation


def test_somebody_elses_object_stays(upload, cloud, green, large):
    """Unless it is equal, which is as good as ours."""
    name = TripFile.of("green", "2020-04").gz_name
    theirs = cloud.storage.bucket(cloud.bucket).blob(name)
    theirs.upload_from_string(b"a course's own")
    with pytest.raises(TaxiError) as refused:
        upload(large)
    assert str(refused.value) == (
        f"gs://{cloud.bucket}/{name} is there already, put there by somebody else: rename it, or set GCP_BUCKET_NAME "
        f"to another bucket."
    )
    assert content(cloud) == b"a course's own"
    theirs.upload_from_filename(green[1])
    assert not upload(green[1]).sent


def test_each_attempt_names_the_generation_that_it_replaces(upload, cloud, green, large, monkeypatch):
    with proxied(cloud.storage_url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        first = upload(green[1])
        second = upload(large)
        sent = [asked.path for asked in proxy.asked if is_upload(asked) and "uploadType" in asked.path]
    assert "ifGenerationMatch=0" in sent[0]
    assert f"ifGenerationMatch={first.generation}" in sent[1]
    assert second.generation != first.generation


def test_the_checksum_is_sent_along(upload, cloud, green, monkeypatch):
    with proxied(cloud.storage_url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        uploaded = upload(green[1])
    assert any(f'"crc32c": "{uploaded.crc32c}"'.encode() in body for body in proxy.bodies)


@pytest.mark.parametrize("way", ["refused", "cut", "lost answer", "429", "503"])
@pytest.mark.parametrize("number", range(1, 13, 3))
def test_broken_once_at_any_request(upload, cloud, large, monkeypatch, way, number):
    seen = 0

    def breaks(asked):
        nonlocal seen
        seen += 1
        return way if seen == number else ""

    with proxied(cloud.storage_url, breaks) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        uploaded = upload(large)
        assert way in {asked.broken for asked in proxy.asked}
    assert uploaded.sent
    assert content(cloud) == large.read_bytes()
    assert len(list(cloud.storage.list_blobs(cloud.bucket))) == 1


def test_nothing_is_seen_of_an_upload_that_never_ends(upload, cloud, large, green, monkeypatch):
    upload(green[1])
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.2)
    with proxied(cloud.storage_url, lambda asked: "cut" if asked.bytes > 1000 else "") as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        with pytest.raises(TransientError, match="green_tripdata_2020-04.csv.gz could not be uploaded .the connection"):
            upload(large, attempts=2)
    assert content(cloud) == green[1].read_bytes()


def test_two_uploads_at_once(upload, cloud, green, large):
    threads = [threading.Thread(target=upload, args=(path,)) for path in (green[1], large, green[1], large)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(cloud) in (green[1].read_bytes(), large.read_bytes())


def test_an_unzipped_upload(upload, cloud, green, monkeypatch):
    monkeypatch.setenv("GCP_UPLOAD_GZIP", "false")
    uploaded = upload(green[1])
    text = cloud.storage.bucket(cloud.bucket).blob(GREEN.csv_name).download_as_bytes()
    assert text == zlib.decompress(green[1].read_bytes(), 31)
    assert uploaded.bytes == len(text)
    assert not upload(green[1]).sent


def test_a_bucket_that_is_not_there(upload, cloud, large, green):
    cloud.storage.bucket(cloud.bucket).delete()
    for path in (green[1], large):
        with pytest.raises(TaxiError, match="The bucket .* is not there: `taxi gcp setup` makes it"):
            upload(path)


def test_a_file_that_cannot_be_read(upload, cloud, tmp_path, green, monkeypatch):
    with pytest.raises(TaxiError, match=r"none.gz cannot be read .*No such file.*: materialize raw_trips again"):
        upload(tmp_path / "none.gz")
    monkeypatch.setenv("GCP_UPLOAD_GZIP", "false")
    green[1].write_bytes(green[1].read_bytes()[:-20])
    with pytest.raises(TaxiError, match="cannot be read .*: materialize raw_trips again"):
        upload(green[1])
    assert list(cloud.storage.list_blobs(cloud.bucket)) == []
