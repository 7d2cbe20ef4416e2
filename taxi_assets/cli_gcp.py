"""`taxi gcp`: the bucket and the dataset, made, checked and removed.

The work itself is in resources/gcp_setup.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from taxi_assets.resources.bigquery import BigQuery
    from taxi_assets.resources.cloud_storage import CloudStorage


def google_cloud() -> tuple[CloudStorage, BigQuery]:
    """Both services, with the settings of this installation."""
    from taxi_assets.resources.bigquery import BigQuery
    from taxi_assets.resources.cloud_storage import CloudStorage
    from taxi_assets.resources.postgres import Postgres
    from taxi_assets.resources.settings_store import SettingsStore

    store = SettingsStore(postgres=Postgres())
    return CloudStorage(settings_store=store), BigQuery(settings_store=store)


@click.group()
def gcp() -> None:
    """Set up Google Cloud for the trips: a bucket for the files, a dataset for the tables.

    \b
    taxi gcp setup          make what is not there
    taxi gcp check          look whether everything is right, and change nothing
    taxi gcp teardown       remove it again
    """


@gcp.command()
def setup() -> None:
    """Make the bucket GCP_BUCKET_NAME and the dataset GCP_DATASET in GCP_LOCATION, where they are not there.

    \b
    Example:
      taxi gcp setup
    """
    from taxi_assets.resources.gcp_setup import set_up

    set_up(*google_cloud(), tell=click.echo)


@gcp.command()
def check() -> None:
    """Look at settings, account, bucket, dataset and permissions, and say what is wrong. Nothing is changed.

    \b
    Example:
      taxi gcp check
    """
    from rich.console import Console
    from rich.text import Text

    from taxi_assets.resources.gcp_setup import check

    console, wrong = Console(), 0
    for finding in check(*google_cloud()):
        mark, style = ("✗", "red") if finding.problem else ("✓", "green")
        line = Text(mark, style=style).append(f" {finding.what:<9}", style="default")
        console.print(line.append(finding.problem or finding.found, style="default"), soft_wrap=True)
        wrong += bool(finding.problem)
    if wrong:
        raise SystemExit(1)


@gcp.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def teardown(yes: bool) -> None:
    """Delete the trip files and tables in Google Cloud, and bucket and dataset where `taxi gcp setup` made them.

    What is there of others stays.

    \b
    Examples:
      taxi gcp teardown
      taxi gcp teardown --yes
    """
    from taxi_assets.resources.gcp_setup import tear_down

    cloud_storage, bigquery = google_cloud()
    settings = bigquery.settings
    if not yes:
        click.confirm(
            f"Delete all trips in the bucket {settings.bucket} and the dataset {settings.project}.{settings.dataset}?",
            abort=True,
        )
    tear_down(cloud_storage, bigquery, tell=click.echo)
