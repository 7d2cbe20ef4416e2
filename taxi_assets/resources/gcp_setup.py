"""Setting up Google Cloud: the bucket and the dataset made, looked at without a change, and removed again.

What was there before is left alone, and what set-up made is remembered in the trips database, so that only that goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxi_assets.errors import TaxiError
from taxi_assets.resources.bigquery import LABEL, BigQuery
from taxi_assets.resources.cloud_storage import MARK, CloudStorage
from taxi_assets.resources.gcp import ROLES, GoogleCloud, account, told
from taxi_assets.resources.postgres import Note
from taxi_assets.resources.settings import setting
from taxi_assets.trips import COLORS

if TYPE_CHECKING:
    from google.cloud import bigquery as google_bigquery
    from google.cloud import storage

LABELS = {LABEL: "trips"}
MADE = "made by set-up"
PERMISSIONS = ["storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `problem` is empty where it is right, else what to do."""

    what: str
    found: str = ""
    problem: str = ""


def set_up(cloud_storage: CloudStorage, bigquery: BigQuery, tell: Callable[[str], None]) -> None:
    """Make the bucket and the dataset where they are not there.

    Args:
        cloud_storage: whose bucket.
        bigquery: whose dataset.
        tell: called with a sentence for each.

    Raises:
        TaxiError: one of them is there, in another place or somebody else's, or may not be made.
    """
    tell(_bucket(cloud_storage))
    tell(_dataset(bigquery))


def check(cloud_storage: CloudStorage, bigquery: BigQuery) -> Iterator[Finding]:
    """Look at everything that a load needs, from the settings to the right to make tables, and change nothing."""
    looks: list[tuple[str, Callable[[], str]]] = [
        ("settings", lambda: f"project {cloud_storage.settings.project} in {cloud_storage.settings.location}"),
        ("account", _whom),
        ("bucket", lambda: _look_at_bucket(cloud_storage)),
        ("dataset", lambda: _look_at_dataset(bigquery)),
        ("jobs", lambda: _try_a_job(bigquery)),
    ]
    for what, look in looks:
        try:
            yield Finding(what, look())
        except TaxiError as error:
            yield Finding(what, problem=str(error))
            if what in ("settings", "account", "dataset"):
                return  # what follows cannot be asked without


def tear_down(cloud_storage: CloudStorage, bigquery: BigQuery, tell: Callable[[str], None]) -> None:
    """Delete the trip files and tables that this project made, then bucket and dataset if set-up made these too.

    Args:
        cloud_storage: whose bucket.
        bigquery: whose dataset.
        tell: called with a sentence for each.

    Raises:
        TaxiError: Google does not allow it.
    """
    from google.api_core.exceptions import NotFound

    bucket_name, dataset_name = cloud_storage.settings.bucket, bigquery.settings.dataset
    with cloud_storage.client() as client, _noted(cloud_storage, f"bucket {bucket_name}") as note:
        bucket = _find_bucket(client, bucket_name)
        if bucket is None:
            tell(f"The bucket {bucket_name} is not there.")
        else:
            blobs = list(client.list_blobs(bucket))
            ours = [blob.name for blob in blobs if MARK in (blob.metadata or {})]
            for name in ours:
                with suppress(NotFound):  # at another attempt, whose answer was lost
                    bucket.delete_blob(name)
            kept = _why_kept(note.get(), len(blobs) - len(ours))
            if not kept:
                bucket.delete()
                note.set("")
            tell(f"Files deleted from the bucket {bucket_name}: {len(ours)}. The bucket {kept or 'is deleted'}.")
    with bigquery.client() as google, _noted(bigquery, f"dataset {dataset_name}") as note:
        if _find_dataset(google, dataset_name) is None:
            tell(f"The dataset {dataset_name} is not there.")
            return
        names = bigquery.tables()
        ours = [name for name in names if bigquery.is_ours(name)]
        for name in ours:
            google.delete_table(bigquery.table_name(name), not_found_ok=True)
        kept = _why_kept(note.get(), len(names) - len(ours))
        if not kept:
            google.delete_dataset(dataset_name, not_found_ok=True)
            note.set("")
        tell(f"Tables deleted from the dataset {dataset_name}: {len(ours)}. The dataset {kept or 'is deleted'}.")


def _noted(cloud: GoogleCloud, what: str) -> AbstractContextManager[Note]:
    """What is remembered of a bucket or a dataset, with nobody else at it."""
    return cloud.settings_store.postgres.alone(f"gcp {cloud.settings.project} {what}")


def _why_kept(note: str, others: int) -> str:
    if note != MADE:
        return "was there before and stays"
    return f"holds what others put there ({others}) and stays" if others else ""


def _bucket(cloud_storage: CloudStorage) -> str:
    from google.api_core.exceptions import ClientError, Conflict

    name, location = cloud_storage.settings.bucket, cloud_storage.settings.location
    with cloud_storage.client() as client, _noted(cloud_storage, f"bucket {name}") as note:
        found = _find_bucket(client, name)
        if found is None:
            wanted = client.bucket(name)
            wanted.labels = LABELS
            wanted.iam_configuration.uniform_bucket_level_access_enabled = True
            wanted.iam_configuration.public_access_prevention = "enforced"
            wanted.soft_delete_policy.retention_duration_seconds = (
                0  # a file can be sent again: none is kept and billed
            )
            note.set(MADE)
            try:
                made = client.create_bucket(wanted, location=location)
            except Conflict:
                made = _find_bucket(client, name)  # ours, where the answer to the first request was lost
            except ClientError:
                note.set("")
                raise
            _same_place(f"bucket {name}", made.location if made else location, location)
            return f"The bucket {name} is made, in {location}."
        _same_place(f"bucket {name}", found.location, location)
        return f"The bucket {name} is there."


def _find_bucket(client: storage.Client, name: str) -> storage.Bucket | None:
    from google.api_core.exceptions import Forbidden

    try:
        return client.lookup_bucket(name)
    except Forbidden as error:
        if "storage.buckets.get" not in str(error):
            raise  # an API is off, say
        raise TaxiError(
            f"The bucket {name} belongs to somebody else, or the account may not see it: choose another name with "
            f"`taxi settings set GCP_BUCKET_NAME`, they are unique in all of Google Cloud, or give the account {ROLES}."
        ) from None


def _dataset(bigquery: BigQuery) -> str:
    from google.api_core.exceptions import ClientError
    from google.cloud.bigquery import Dataset

    name, location = bigquery.settings.dataset, bigquery.settings.location
    with bigquery.client() as client, _noted(bigquery, f"dataset {name}") as note:
        found = _find_dataset(client, name)
        if found is None:
            wanted = Dataset(f"{bigquery.settings.project}.{name}")
            wanted.location, wanted.labels = location, LABELS
            wanted.description = "New York's taxi trips, month by month."
            note.set(MADE)
            try:
                client.create_dataset(wanted, exists_ok=True)
            except ClientError:
                note.set("")
                raise
            return f"The dataset {name} is made, in {location}."
        _same_place(f"dataset {name}", found.location, location)
        return f"The dataset {name} is there."


def _find_dataset(client: google_bigquery.Client, name: str) -> google_bigquery.Dataset | None:
    from google.api_core.exceptions import NotFound

    try:
        return client.get_dataset(name)
    except NotFound as error:
        if "Dataset" in str(error):
            return None
        raise


def _same_place(what: str, found: str | None, wanted: str) -> None:
    if (found or "").upper() != wanted.upper():
        raise TaxiError(
            f"The {what} is in {found}, GCP_LOCATION is {wanted}, and BigQuery reads only files that are where its "
            f"dataset is: `taxi settings set GCP_LOCATION {found}`, or choose another name so that a new one is made."
        )


def _whom() -> str:
    import google.auth.transport.requests
    from google.auth.credentials import AnonymousCredentials

    credentials = account("STORAGE_EMULATOR_HOST")
    if isinstance(credentials, AnonymousCredentials):
        return "none, an emulator asks for none"
    with told():
        credentials.refresh(google.auth.transport.requests.Request())
    return str(getattr(credentials, "service_account_email", "Application Default Credentials"))


def _look_at_bucket(cloud_storage: CloudStorage) -> str:
    name = cloud_storage.settings.bucket
    with cloud_storage.client() as client:
        found = _find_bucket(client, name)
        if found is None:
            raise TaxiError(f"The bucket {name} is not there: `taxi gcp setup` makes it.")
        _same_place(f"bucket {name}", found.location, cloud_storage.settings.location)
        if not setting("STORAGE_EMULATOR_HOST"):  # which knows no permissions
            missing = sorted(set(PERMISSIONS) - set(found.test_iam_permissions(PERMISSIONS)))
            if missing:
                raise TaxiError(f"The account lacks {', '.join(missing)} on the bucket {name}: give it {ROLES}.")
        return f"{name} in {found.location}"


def _look_at_dataset(bigquery: BigQuery) -> str:
    name = bigquery.settings.dataset
    with bigquery.client() as client:
        found = _find_dataset(client, name)
        if found is None:
            raise TaxiError(f"The dataset {name} is not there: `taxi gcp setup` makes it.")
        _same_place(f"dataset {name}", found.location, bigquery.settings.location)
        return f"{name} in {found.location}"


def _try_a_job(bigquery: BigQuery) -> str:
    for color in COLORS.values():
        bigquery.try_to_make_final_table(color)
    return "the account may make tables (tried without making any)"
