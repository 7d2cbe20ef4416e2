"""What Cloud Storage and BigQuery share: the settings, the account, and Google's errors in one sentence each.

The clients are made by Google's own classes rather than by dagster-gcp's resources, which take no address of an
emulator and hand credentials on through the environment of the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import PrivateAttr

from taxi_assets.errors import TaxiError, TransientError
from taxi_assets.resources.secrets import secret, service_account
from taxi_assets.resources.settings import setting
from taxi_assets.resources.settings_store import SettingsStore

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.credentials import Credentials

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
SETTINGS = (
    "GCP_PROJECT_ID", "GCP_LOCATION", "GCP_BUCKET_NAME", "GCP_DATASET", "GCP_UPLOAD_GZIP", "GCP_STAGING_EXPIRATION",
    "GCP_MAXIMUM_BYTES_BILLED",
)  # fmt: skip
ROLES = "roles/storage.admin, roles/bigquery.dataEditor and roles/bigquery.jobUser"


@dataclass(frozen=True)
class GcpSettings:
    """The settings of the path into BigQuery, in the order of `SETTINGS`.

    Attributes:
        location: of bucket, dataset and jobs.
        upload_gzip: whether the file goes to the bucket as it is published, or unzipped.
        staging_expiration: after which a month's external and staging tables are gone.
        maximum_bytes_billed: by one statement; one that would read more is refused and costs nothing.
    """

    project: str
    location: str
    bucket: str
    dataset: str
    upload_gzip: bool
    staging_expiration: timedelta
    maximum_bytes_billed: int


class GoogleCloud(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One project of Google Cloud, as the settings name it; they are read when they are first needed and then kept."""

    settings_store: SettingsStore
    _settings: GcpSettings | None = PrivateAttr(default=None)

    @property
    def settings(self) -> GcpSettings:
        """The settings as they were when this resource was first asked for them: in a run, at its first step.

        Raises:
            TaxiError: naming all that are missing, with the commands that set them.
        """
        if self._settings is None:
            self._settings = GcpSettings(*self.settings_store.require(SETTINGS).values())
        return self._settings


def account(emulator: str) -> Credentials:
    """Whom Google is asked as: the service account of `GCP_CREDS`, else Application Default Credentials.

    Args:
        emulator: the setting that names the service's emulator; where it is set and no account is, none is needed.

    Raises:
        TaxiError: there is no account, or what is there is none.
    """
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import DefaultCredentialsError
    from google.oauth2 import service_account as google_service_account

    given = secret("GCP_CREDS")
    if given:
        credentials: Credentials
        credentials = google_service_account.Credentials.from_service_account_info(
            service_account(given), scopes=SCOPES
        )
        return credentials
    if setting(emulator):
        return AnonymousCredentials()
    try:
        credentials, _ = google.auth.default(scopes=SCOPES)
    except DefaultCredentialsError:
        raise TaxiError(
            "There is no Google account to work as: put the service account's file into .env as "
            "GCP_CREDS=path/to/service-account.json, or run `gcloud auth application-default login`."
        ) from None
    return credentials


@contextmanager
def told() -> Iterator[None]:
    """Turn what Google says into one sentence, and into the class that says whether to try again."""
    import requests
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError

    try:
        yield
    except RefreshError as error:
        raise _refused_account(error) from None
    except (TransportError, requests.RequestException, ConnectionError) as error:
        raise TransientError(
            f"Google cannot be reached ({type(error).__name__}): check the network, then run this again."
        ) from None
    except GoogleAuthError:
        raise TaxiError("Google does not accept the account: check GCP_CREDS, or log in anew with gcloud.") from None
    except RetryError as error:
        with told():
            raise error.cause or TransientError("Google does not answer: run this again later.") from None
    except GoogleAPICallError as error:
        raise _sentence(error) from None


def reason(error: GoogleAPICallError) -> str:
    """Google's word for an error, such as `notFound`; empty where it gives none."""
    return str(error.errors[0].get("reason", "")) if error.errors and isinstance(error.errors[0], dict) else ""


def said(error: GoogleAPICallError) -> str:
    """What Google says of an error: its first sentence, without addresses and ids of jobs."""
    text = str(error.errors[0].get("message", "")) if reason(error) else ""
    text = re.sub(r"https?://\S+", "", text or str(error.message)).strip()
    text = re.sub(r"^(?:GET|POST|PUT|PATCH|DELETE)?\s*:\s*", "", text)
    return re.split(r"\n|; Job ID|(?<=[a-z])\. ", text)[0].strip().rstrip(".")


def _refused_account(error: Any) -> TaxiError:
    what = str(error.args[0]).splitlines()[0] if error.args else ""
    if getattr(error, "retryable", False):
        return TransientError(f"Google's log-in does not answer ({what}): run this again later.")
    hints = {
        "Invalid JWT Signature": "its key was deleted; make a new one and put it into GCP_CREDS",
        "account not found": "the service account was deleted; make a new one and put its key into GCP_CREDS",
        "Token must be a short-lived": "this machine's clock is wrong",
        "Reauthentication": "log in anew: `gcloud auth application-default login`",
        "expired or revoked": "log in anew: `gcloud auth application-default login`",
    }
    hint = next((hint for words, hint in hints.items() if words in what), "check GCP_CREDS, or log in anew with gcloud")
    return TaxiError(f"Google does not accept the account ({what}): {hint}.")


# Reasons, in Google's words, that go by themselves: https://cloud.google.com/bigquery/docs/error-messages
PASSING = (
    "backendError", "internalError", "jobBackendError", "jobInternalError", "jobRateLimitExceeded", "rateLimitExceeded",
    "tableUnavailable",
)  # fmt: skip

# What Google says, by its words or by its reason, and what to do; the first that fits counts.
MENDS: tuple[tuple[str, str], ...] = (
    (
        r"SERVICE_DISABLED|accessNotConfigured|has not been used in project|has not enabled BigQuery|is disabled",
        "An API is switched off ({said}): `gcloud services enable bigquery.googleapis.com storage.googleapis.com "
        "--project YOUR_PROJECT`, then wait a minute.",
    ),
    (
        r"billingNotEnabled|[Bb]illing has not been enabled|[Bb]illing account .*(?:disabled|closed|absent)",
        "The project has no billing ({said}): link a billing account to it.",
    ),
    (
        r"bytesBilledLimitExceeded",
        "BigQuery refused a statement as too dear ({said}): `taxi settings set GCP_MAXIMUM_BYTES_BILLED` to more.",
    ),
    (
        r"quotaExceeded|Quota exceeded",
        "A quota of the project is used up ({said}): wait until it renews, or ask for more, under Quotas.",
    ),
    (
        r"different locations|location constraint|Cannot read in location",
        "Bucket and dataset are not in one place ({said}): make both in GCP_LOCATION, which `taxi gcp check` compares.",
    ),
    (
        r"Not found: Project|[Uu]nknown project|[Pp]roject \S* ?does not exist",
        "There is no such project ({said}): `taxi settings set GCP_PROJECT_ID` to one that is listed by "
        "`gcloud projects list`.",
    ),
    (r"bucket does not exist", "The bucket is not there ({said}): `taxi gcp setup` makes it."),
    (
        r"Not found: Dataset",
        "The dataset is not there ({said}): `taxi gcp setup` makes it, or set GCP_LOCATION to where it is.",
    ),
    (r"Not found: Files", "The file is not in the bucket ({said}): materialize gcs_trips first."),
    (r"^stopped ", "The statement was cancelled in BigQuery ({said}): run this again if that was not meant."),
    (r"Not found: Table", "A table is not there ({said}): materialize the assets before this one first."),
)


def _sentence(error: GoogleAPICallError) -> TaxiError:
    """Google's answer in one sentence, with what to do."""
    code, words = int(error.code or 0), f"{reason(error)} {error.message} {getattr(error, 'reason', '')}"
    if reason(error) in PASSING or "Could not serialize access" in words:
        return TransientError(f"Google is busy ({said(error)}): run this again later.")
    for pattern, sentence in MENDS:
        if re.search(pattern, words):
            return TaxiError(sentence.format(said=said(error)))
    if code in (408, 429, 500, 502, 503, 504):
        return TransientError(f"Google is busy ({code}: {said(error)}): run this again later.")
    if code == 401:
        return TaxiError(f"Google does not accept the account ({said(error)}): check GCP_CREDS, or log in with gcloud.")
    if code == 403:
        return TaxiError(f"Google does not allow it ({said(error)}): give the account {ROLES} in the project.")
    return TaxiError(f"Google refuses it ({code}: {said(error)}): `taxi gcp check` looks for what is wrong.")
