"""The errors of Google's APIs, as the fake BigQuery answers them: reason, HTTP code, and JSON body.

Reasons and codes: https://cloud.google.com/bigquery/docs/error-messages.
"""

from __future__ import annotations

from typing import Any

CODES = {
    "accessDenied": 403,
    "accessNotConfigured": 403,
    "backendError": 503,
    "bytesBilledLimitExceeded": 400,
    "duplicate": 409,
    "internalError": 500,
    "invalid": 400,
    "invalidQuery": 400,
    "notFound": 404,
    "quotaExceeded": 403,
    "rateLimitExceeded": 403,
    "resourceInUse": 400,
    "stopped": 499,
}
STATUSES = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class GoogleError(Exception):
    """An error as a request or a job meets it.

    Attributes:
        rows: the errors of single rows, which a job lists after its own.
        service_disabled: whether the body tells that the API is switched off in the project.
    """

    def __init__(
        self, reason: str, message: str, *, code: int = 0, rows: tuple[str, ...] = (), service_disabled: str = ""
    ) -> None:
        super().__init__(message)
        self.reason, self.message, self.rows, self.service_disabled = reason, message, rows, service_disabled
        self.code = code or CODES[reason]

    def body(self) -> dict[str, Any]:
        """The body of the HTTP answer."""
        found = {"message": self.message, "domain": "global", "reason": self.reason}
        error = {"code": self.code, "message": self.message, "errors": [found], "status": STATUSES[self.code]}
        if self.service_disabled:
            info = "type.googleapis.com/google.rpc.ErrorInfo"
            metadata = {"service": "bigquery.googleapis.com", "consumer": f"projects/{self.service_disabled}"}
            details = {"reason": "SERVICE_DISABLED", "domain": "googleapis.com", "metadata": metadata}
            error["details"] = [{"@type": info, **details}]
        return {"error": error}

    def result(self) -> dict[str, str]:
        """What a failed job says in `status.errorResult`."""
        return {"reason": self.reason, "message": self.message}

    def results(self) -> list[dict[str, str]]:
        """What a failed job says in `status.errors`."""
        return [self.result(), *({"reason": self.reason, "message": row} for row in self.rows)]


class UnsupportedError(GoogleError):
    """Something that BigQuery may well do, and the fake does not."""

    def __init__(self, what: str) -> None:
        super().__init__("invalid", f"Unsupported by the fake BigQuery: {what}")


def already_exists(what: str) -> GoogleError:
    return GoogleError("duplicate", f"Already Exists: {what}")


def not_found(what: str, location: str = "") -> GoogleError:
    return GoogleError(
        "notFound", f"Not found: {what}" + (f" was not found in location {location}" if location else "")
    )


def invalid(message: str) -> GoogleError:
    return GoogleError("invalid", message)


def invalid_query(message: str) -> GoogleError:
    return GoogleError("invalidQuery", message)


def service_disabled(project: str) -> GoogleError:
    """The BigQuery API is not enabled in the project."""
    message = (
        f"BigQuery API has not been used in project {project} before or it is disabled. Enable it by visiting "
        f"https://console.developers.google.com/apis/api/bigquery.googleapis.com/overview?project={project} then retry."
    )
    return GoogleError("accessNotConfigured", message, service_disabled=project)
