"""A fake BigQuery: the REST API v2 over HTTP for the real `google.cloud.bigquery.Client`, computed by DuckDB.

It is no BigQuery. It is there so that the project's own statements, its handling of jobs and its handling of errors can
be tested and measured without a network or an account; it does what BigQuery's documentation says for these, and
answers everything else with HTTP 400 and `Unsupported by the fake BigQuery: …`. Nothing in `taxi_assets` imports it.
"""

from tests.emulators.bigquery.errors import GoogleError, service_disabled
from tests.emulators.bigquery.server import FakeBigQuery, Fault, Job, Request

__all__ = ["FakeBigQuery", "Fault", "GoogleError", "Job", "Request", "service_disabled"]
