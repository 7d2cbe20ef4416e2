"""Telling people that a run has failed, by mail or by webhook.

What failed and why is in `history`; nothing here works on trips.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import dagster as dg

from taxi_assets.errors import TaxiError
from taxi_assets.history import why
from taxi_assets.resources.secrets import secret
from taxi_assets.resources.settings import NOBODY, setting
from taxi_assets.resources.settings_store import SettingsStore

WILL_RETRY = "dagster/will_retry"  # on a run that Dagster starts again: only the last attempt is told
HERE = ("localhost", "127.0.0.1", "::1")
ATTEMPTS, PAUSE_SECONDS, LONGEST_SECONDS = 3, 2.0, 20.0


@dg.run_failure_sensor(
    name="failed_run_alert",
    description="A mail or a webhook for each run that failed for good, to ALERT_MAIL_TO and ALERT_WEBHOOK_URL.",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
)
def failed_run_alert(context: dg.RunFailureSensorContext, settings_store: SettingsStore) -> dg.SkipReason | None:
    """Tell of a run that failed, unless it is started again by itself."""
    run = context.dagster_run
    if run.tags.get(WILL_RETRY) == "true":
        return dg.SkipReason(f"Run {run.run_id} is started again.")
    try:
        ways = _ways(settings_store)
    except TaxiError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    if not ways:
        return dg.SkipReason("Nobody is to be told: neither ALERT_MAIL_TO nor ALERT_WEBHOOK_URL is set.")
    alert = _alert(context.instance, run)
    problems = [problem for way in ways if (problem := _told(way, alert))]
    if problems:
        raise dg.Failure(" ".join(problems), allow_retries=False)
    return None


def _alert(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Mapping[str, str]:
    what = run.tags.get("dagster/partition") or run.job_name
    base = setting("TAXI_URL")
    return {
        "text": f"{what} failed: {why(instance, run.run_id)}",
        "run": run.run_id,
        **({"url": f"{base.rstrip('/')}/runs/{run.run_id}"} if base else {}),
    }


def _ways(settings_store: SettingsStore) -> list[Callable[[Mapping[str, str]], None]]:
    """How people are told, by what is set."""
    ways: list[Callable[[Mapping[str, str]], None]] = []
    webhook, mail_to = secret("ALERT_WEBHOOK_URL"), settings_store.get("ALERT_MAIL_TO")
    if webhook:
        ways.append(lambda alert: _post(webhook, alert))
    if mail_to != NOBODY:
        server = secret("ALERT_SMTP_URL")
        if not server:
            raise TaxiError(
                "ALERT_MAIL_TO is set without a server: set ALERT_SMTP_URL to one like smtps://user:password@host:465."
            )
        ways.append(lambda alert: _mail(server, str(mail_to), alert))
    return ways


def _told(way: Callable[[Mapping[str, str]], None], alert: Mapping[str, str]) -> str | None:
    """Try some times; what went wrong in the end, without addresses, which may hold a key."""
    problem = None
    for attempt in range(ATTEMPTS):
        try:
            way(alert)
            return None
        except TaxiError as error:
            return str(error)
        except (OSError, smtplib.SMTPException) as error:
            problem = type(error).__name__
            if attempt < ATTEMPTS - 1:
                time.sleep(PAUSE_SECONDS * 2**attempt)
    return f"An alert could not be sent ({problem}): check ALERT_WEBHOOK_URL or ALERT_SMTP_URL, and their servers."


def _post(url: str, alert: Mapping[str, str]) -> None:
    """As JSON whose `text` is what chats show: Slack, Mattermost, Google Chat, Teams by its connector."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise TaxiError("ALERT_WEBHOOK_URL is no URL that begins with https://: correct it.")
    text = "\n".join(filter(None, (alert["text"], alert.get("url"))))
    request = urllib.request.Request(  # noqa: S310 - its scheme was looked at
        url, json.dumps({**alert, "text": text}).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=LONGEST_SECONDS):  # noqa: S310
            pass
    except urllib.error.HTTPError as error:
        if error.code < 500 and error.code != 429:
            raise TaxiError(f"The webhook refuses alerts ({error.code}): correct ALERT_WEBHOOK_URL.") from None
        raise


def _mail(server: str, to: str, alert: Mapping[str, str]) -> None:
    """By a server such as smtps://user:password@host:465, or smtp:// with TLS where the server offers it."""
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("smtp", "smtps"):
        raise TaxiError("ALERT_SMTP_URL is not like smtps://user:password@host:465: correct it.")
    message = EmailMessage()
    message["Subject"] = alert["text"].splitlines()[0][:150]
    message["From"] = unquote(parts.username or "") if "@" in unquote(parts.username or "") else f"taxi@{host}"
    message["To"] = to
    message.set_content("\n\n".join(alert.values()))
    with _connected(parts.scheme, host, port) as smtp:
        if parts.username:
            try:
                smtp.login(unquote(parts.username), unquote(parts.password or ""))
            except smtplib.SMTPAuthenticationError:
                raise TaxiError("The mail server refuses the login: correct ALERT_SMTP_URL.") from None
        smtp.send_message(message)


def _connected(scheme: str, host: str, port: int | None) -> smtplib.SMTP:
    """With TLS, except to a server on this machine that has none."""
    context = ssl.create_default_context()
    if scheme == "smtps":
        return smtplib.SMTP_SSL(host, port or 465, timeout=LONGEST_SECONDS, context=context)
    smtp = smtplib.SMTP(host, port or 587, timeout=LONGEST_SECONDS)
    smtp.ehlo()
    if smtp.has_extn("starttls"):
        smtp.starttls(context=context)
    elif host not in HERE:
        smtp.close()
        raise TaxiError("The mail server of ALERT_SMTP_URL offers no TLS: name one that does, as smtps://.")
    return smtp
