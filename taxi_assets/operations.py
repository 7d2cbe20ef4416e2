"""Jobs that load no trips: settings set and Google Cloud set up from the UI, as `taxi settings` and `taxi gcp` do.

The work itself, and what may be set, is in the resources.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from taxi_assets.errors import TaxiError
from taxi_assets.resources import gcp_setup
from taxi_assets.resources.bigquery import BigQuery
from taxi_assets.resources.cloud_storage import CloudStorage
from taxi_assets.resources.settings import SettingError, is_secret
from taxi_assets.resources.settings_store import SettingsStore


class SettingsToSet(dg.Config):
    """Names and values, such as `GCP_DATASET: trips`; a value is a text, a number or a boolean."""

    settings: dict[str, Any]


@dg.op(description="Stores all of the settings, or none where one is wrong.")
def store_settings(context: dg.OpExecutionContext, config: SettingsToSet, settings_store: SettingsStore) -> None:
    """Store all of the settings, and log those that were changed."""
    try:
        changed = settings_store.set_many(config.settings)
    except SettingError as error:
        kept = any(is_secret(name) for name in config.settings)
        mend = " Delete this run, too: Dagster keeps what it was given." if kept else ""
        raise dg.Failure(f"{error}{mend}", allow_retries=False) from None
    for value in changed:
        context.log.info(f"{value.name} ({value.type}) is {value.text}")
    if not changed:
        context.log.info("Nothing was changed: every setting had its value already.")


@dg.job(description="Sets settings such as GCP_DATASET: `ops: {set_settings: {config: {settings: {NAME: value}}}}`.")
def set_settings() -> None:
    """Set settings."""
    store_settings.alias("set_settings")()  # Dagster wants no op with the name of a job


@dg.op(description="Makes the bucket and the dataset of the settings where they are not there.")
def set_up_google_cloud(context: dg.OpExecutionContext, cloud_storage: CloudStorage, bigquery: BigQuery) -> None:
    """Make the bucket and the dataset, and log which."""
    with _told():
        gcp_setup.set_up(cloud_storage, bigquery, tell=context.log.info)


@dg.job(description="Makes the bucket and the dataset of the settings where they are not there, as `taxi gcp setup`.")
def gcp_setup_job() -> None:
    """Set up Google Cloud."""
    set_up_google_cloud()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except TaxiError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
