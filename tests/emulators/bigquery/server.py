"""BigQuery's REST API v2: datasets, tables and jobs over HTTP, and the faults that a test orders.

https://cloud.google.com/bigquery/docs/reference/rest
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.emulators.bigquery.engine import Engine, Name, Statement, Table
from tests.emulators.bigquery.errors import GoogleError, UnsupportedError, already_exists, invalid, not_found
from tests.emulators.bigquery.values import cell, milliseconds

PAGE = 50_000  # rows of an answer; BigQuery limits its bytes
WAIT = 10.0  # seconds that a request for results waits where it does not say

CONFIGURATION = {"query", "dryRun", "labels", "jobTimeoutMs", "jobType"}
QUERY = {"query", "useLegacySql", "maximumBytesBilled", "useQueryCache", "defaultDataset", "priority"}
# https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/query#QueryRequest: only what does not go to the job
REQUEST = {"requestId", "location", "timeoutMs", "maxResults", "formatOptions", "kind", "jobCreationMode"}
DATASET = {"kind", "datasetReference", "location", "labels", "description", "friendlyName"}


@dataclass(frozen=True)
class Request:
    """One request of a client, as tests see it.

    Attributes:
        path: without `/bigquery/v2` and the query.
    """

    method: str
    path: str
    parameters: Mapping[str, str]
    body: dict[str, Any]

    def whole(self, name: str, otherwise: int) -> int:
        return int(self.parameters.get(name, otherwise))


@dataclass
class Fault:
    """What befalls the next requests that match.

    Attributes:
        error: what is answered; with None the connection is dropped.
        after: the request is carried out, and only its answer is lost.
    """

    matches: Callable[[Request], bool]
    error: GoogleError | None = None
    times: int = 1
    after: bool = False


@dataclass
class Job:
    """A query job, which runs in a thread of its own."""

    reference: dict[str, str]
    configuration: dict[str, Any]
    statement: Statement
    created: int = field(default_factory=lambda: int(milliseconds()))
    started: int = 0
    ended: int = 0
    error: GoogleError | None = None
    stopping: str = ""
    waited: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def label(self) -> str:
        return "Job {projectId}:{location}.{jobId}".format_map(self.reference)

    @property
    def state(self) -> str:
        return "DONE" if self.done.is_set() else "RUNNING" if self.started else "PENDING"

    def stop(self, why: str) -> None:
        """End the statement where it is."""
        self.stopping = self.stopping or why
        self.statement.interrupt()

    def resource(self) -> dict[str, Any]:
        """As jobs.get answers it."""
        statement = self.statement
        query: dict[str, Any] = {"cacheHit": False, **statement.statistics}
        if statement.type:
            query["statementType"] = statement.type
        statistics: dict[str, Any] = {"creationTime": str(self.created), "query": query}
        if self.started:
            statistics["startTime"] = str(self.started)
        if self.done.is_set():
            query |= {
                "totalBytesProcessed": str(statement.bytes_processed),
                "totalBytesBilled": str(statement.bytes_billed),
                "totalSlotMs": str(max(1, self.ended - self.started)),
            }
            statistics |= {"endTime": str(self.ended), "totalBytesProcessed": str(statement.bytes_processed)}
        if statement.schema is not None:
            query["schema"] = {"fields": statement.schema}
        status: dict[str, Any] = {"state": self.state}
        if self.done.is_set() and self.error:
            status |= {"errorResult": self.error.result(), "errors": self.error.results()}
        return {
            "kind": "bigquery#job",
            "etag": uuid.uuid4().hex,
            "id": "{projectId}:{location}.{jobId}".format_map(self.reference),
            "jobReference": self.reference,
            "configuration": self.configuration,
            "statistics": statistics,
            "status": status,
            "user_email": "fake@example.com",
        }


class FakeBigQuery:
    """The fake, in threads of this process.

    Attributes:
        seconds: what the statements took so far, waiting not included.
        requests: the last of them, oldest first.
        faults: what is to befall requests from now on.
        latency: called in a job's thread when its statement has read what it needs, and nobody sees its work yet.
    """

    def __init__(self, storage_url: str, folder: Path | None = None, port: int = 0) -> None:
        self._engine = Engine(storage_url, folder)
        self._jobs: dict[tuple[str, str, str], Job] = {}
        self._asked: dict[tuple[str, str], Job] = {}  # by the ids of requests to jobs.query
        self._lock = threading.Lock()
        self.seconds = 0.0
        self.requests: deque[Request] = deque(maxlen=10_000)
        self.faults: list[Fault] = []
        self.latency: Callable[[Job], None] = lambda job: None
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.fake = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> None:
        """Answer requests from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End running jobs, and answer nothing any more."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        for job in list(self._jobs.values()):
            if not job.done.is_set():
                job.stop("The fake is stopped")
                job.done.wait(10)
        self._engine.close()

    def __enter__(self) -> FakeBigQuery:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def take_fault(self, request: Request) -> Fault | None:
        """The fault that befalls this request, if any."""
        with self._lock:
            found = next((fault for fault in self.faults if fault.times > 0 and fault.matches(request)), None)
            if found:
                found.times -= 1
            return found

    def answer(self, request: Request) -> dict[str, Any] | None:
        """Carry out a request."""
        if request.path == "/fake/account":
            return self._account()
        for method, pattern, rule in ROUTES:
            found = re.fullmatch(pattern, request.path)
            if found and method == request.method:
                return rule(self, request, *map(unquote, found.groups()))
        raise UnsupportedError(f"{request.method} {request.path}")

    def _account(self) -> dict[str, Any]:
        billed = sum(job.statement.bytes_billed for job in list(self._jobs.values()))
        return {"seconds": self.seconds, "jobs": len(self._jobs), "bytesBilled": billed}

    # Datasets

    def _insert_dataset(self, request: Request, project: str) -> dict[str, Any]:
        _allow(request.body, DATASET, "in a dataset")
        name = (project, request.body["datasetReference"]["datasetId"])
        if not re.fullmatch(r"\w{1,1024}", name[1], re.ASCII):
            raise invalid(
                f'Invalid dataset ID "{name[1]}". Dataset IDs must be alphanumeric (plus underscores) and must be at '
                "most 1024 characters long."
            )
        resource = {
            "kind": "bigquery#dataset",
            "id": ":".join(name),
            **{key: value for key, value in request.body.items() if value is not None},
            "datasetReference": {"projectId": project, "datasetId": name[1]},
            "location": _location(request.body.get("location") or "US"),
            "creationTime": milliseconds(),
            "lastModifiedTime": milliseconds(),
        }
        self._engine.create_dataset(name, resource)
        return self._get_dataset(request, *name)

    def _get_dataset(self, _: Request, project: str, dataset: str) -> dict[str, Any]:
        return {"etag": "fake", **self._engine.dataset((project, dataset))}

    def _delete_dataset(self, request: Request, project: str, dataset: str) -> None:
        delete_contents = request.parameters.get("deleteContents", "").lower() == "true"
        self._engine.delete_dataset((project, dataset), delete_contents)

    def _list_datasets(self, request: Request, project: str) -> dict[str, Any]:
        keys = ("kind", "id", "datasetReference", "location", "labels", "friendlyName")
        found = [resource for name, resource in sorted(self._engine.datasets.items()) if name[0] == project]
        return _page(request, "datasets", [{key: item[key] for key in keys if key in item} for item in found])

    # Tables

    def _get_table(self, _: Request, *name: str) -> dict[str, Any]:
        table = self._engine.table(name)
        rows, size = (0, 0) if table.external else self._engine.size(table)
        resource = {
            "kind": "bigquery#table",
            "etag": f"{table.data}.{rows}",
            "id": _table_id(table),
            "tableReference": _table_reference(table.name),
            **table.resource,
            "location": self._engine.datasets[name[:2]]["location"],
            "numRows": str(rows),
            "numBytes": str(size),
        }
        return resource

    def _delete_table(self, _: Request, *name: str) -> None:
        self._engine.delete_table(name)

    def _list_tables(self, request: Request, *dataset: str) -> dict[str, Any]:
        keys = ("type", "labels", "timePartitioning", "clustering", "creationTime", "expirationTime")
        items = [
            {
                "kind": "bigquery#table",
                "id": _table_id(table),
                "tableReference": _table_reference(table.name),
                **{key: table.resource[key] for key in keys if key in table.resource},
            }
            for table in self._engine.list_tables(dataset)
        ]
        return _page(request, "tables", items)

    def _list_rows(self, request: Request, *name: str) -> dict[str, Any]:
        start = _start(request)
        table, rows, total = self._engine.page(name, start, min(request.whole("maxResults", PAGE), PAGE))
        answer = {"kind": "bigquery#tableDataList", "etag": table.data, "totalRows": str(total)}
        return {**answer, **_rows(rows, start, total, _int64_timestamp(_options(request)))}

    # Jobs

    def _insert_job(self, request: Request, project: str) -> dict[str, Any]:
        reference = request.body.get("jobReference", {})
        job = self._make_job(request.body.get("configuration", {}), reference, project)
        if job.statement.dry_run:
            return self._dry_run(job).resource()
        self._begin(job)
        return job.resource()

    def _query(self, request: Request, project: str) -> dict[str, Any]:
        """jobs.query: a job whose id is not chosen, and its first results; asked again, the same job."""
        body = dict(request.body)
        own = {key: body.pop(key) for key in REQUEST & set(body)}
        query = {key: body.pop(key) for key in QUERY & set(body)}
        int64_timestamp = _int64_timestamp(own.get("formatOptions", {}))
        new = self._make_job({**body, "query": query}, {"location": own.get("location", "")}, project)
        if new.statement.dry_run:
            return self._results(request, self._dry_run(new), int64_timestamp)
        with self._lock:
            job = self._asked.setdefault((project, own.get("requestId") or new.label), new)
        if job is new:
            self._begin(job)
        job.done.wait(int(own.get("timeoutMs", WAIT * 1000)) / 1000)
        parameters = {"maxResults": str(own.get("maxResults", PAGE))}
        return self._results(Request("GET", request.path, parameters, {}), job, int64_timestamp)

    def _make_job(self, configuration: dict[str, Any], reference: Mapping[str, Any], project: str) -> Job:
        _allow(configuration, CONFIGURATION, "in a job's configuration")
        query = configuration.get("query", {})
        _allow(query, QUERY, "in a query's configuration")
        if query.get("useLegacySql", True) is not False:
            raise UnsupportedError("legacy SQL")
        if not query.get("query"):
            raise GoogleError("invalid", "Required parameter is missing: query")
        job_id = reference.get("jobId") or f"job_{uuid.uuid4().hex}"
        if not re.fullmatch(r"[\w-]{1,1024}", job_id, re.ASCII):
            raise invalid(f'Invalid job ID "{job_id}". Job IDs must be alphanumeric (plus underscores and dashes).')
        default_dataset, limit = query.get("defaultDataset", {}), query.get("maximumBytesBilled")
        location = _location(reference.get("location") or "")
        location = location or self._engine.locate(query["query"], project, default_dataset)
        statement = Statement(
            query["query"],
            project,
            default_dataset,
            location,
            int(limit) if limit is not None else None,
            bool(configuration.get("dryRun")),
        )
        reference = {"projectId": project, "jobId": job_id, "location": location}
        job = Job(reference, {"jobType": "QUERY", **configuration}, statement)
        statement.waiting = lambda: self._wait(job)
        return job

    def _dry_run(self, job: Job) -> Job:
        self._engine.run(job.statement)
        job.started = job.ended = job.created
        job.done.set()
        return job

    def _begin(self, job: Job) -> None:
        key = (job.reference["projectId"], job.reference["location"], job.reference["jobId"])
        with self._lock:
            if key in self._jobs:
                raise already_exists(job.label)
            self._jobs[key] = job
        threading.Thread(target=self._run, args=(job,), daemon=True).start()

    def _run(self, job: Job) -> None:
        job.started = int(milliseconds())
        timeout = int(job.configuration.get("jobTimeoutMs") or 0)
        timer = threading.Timer(timeout / 1000, job.stop, ["Job timed out"])
        if timeout:
            timer.start()
        begin = time.monotonic()
        try:
            self._engine.run(job.statement)
        except GoogleError as error:
            job.error = (
                GoogleError("stopped", f"Job execution was cancelled: {job.stopping}") if job.stopping else error
            )
        except Exception as error:
            job.error = GoogleError("internalError", f"The fake BigQuery itself failed: {error!r}")
        timer.cancel()
        with self._lock:
            self.seconds += time.monotonic() - begin - job.waited
        job.ended = int(milliseconds())
        job.done.set()

    def _wait(self, job: Job) -> None:
        begin = time.monotonic()
        self.latency(job)
        job.waited += time.monotonic() - begin
        if job.stopping:
            raise GoogleError("stopped", job.stopping)

    def _job(self, request: Request, project: str, job_id: str) -> Job:
        """The job of a request, which has to name the location unless that is US or EU."""
        wanted = _location(request.parameters.get("location", ""))
        for location in [wanted] if wanted else ["US", "EU"]:
            job = self._jobs.get((project, location, job_id))
            if job:
                return job
        raise not_found(f"Job {project}:{wanted + '.' if wanted else ''}{job_id}")

    def _get_job(self, request: Request, project: str, job_id: str) -> dict[str, Any]:
        return self._job(request, project, job_id).resource()

    def _cancel_job(self, request: Request, project: str, job_id: str) -> dict[str, Any]:
        job = self._job(request, project, job_id)
        job.stop("User requested cancellation")
        return {"kind": "bigquery#jobCancelResponse", "job": job.resource()}

    def _list_jobs(self, request: Request, project: str) -> dict[str, Any]:
        states = [state.upper() for state in request.parameters.get("stateFilter", "").split(",") if state]
        first, last = request.whole("minCreationTime", 0), request.whole("maxCreationTime", 1 << 62)
        jobs = [
            job.resource() | {"state": job.state}
            for key, job in list(self._jobs.items())
            if key[0] == project and first <= job.created <= last and (not states or job.state in states)
        ]
        jobs.sort(key=lambda job: int(job["statistics"]["creationTime"]), reverse=True)
        return _page(request, "jobs", jobs)

    def _get_results(self, request: Request, project: str, job_id: str) -> dict[str, Any]:
        job = self._job(request, project, job_id)
        job.done.wait(request.whole("timeoutMs", int(WAIT * 1000)) / 1000)
        return self._results(request, job, _int64_timestamp(_options(request)))

    def _results(self, request: Request, job: Job, int64_timestamp: bool) -> dict[str, Any]:
        statement = job.statement
        answer: dict[str, Any] = {
            "kind": "bigquery#getQueryResultsResponse",
            "etag": "fake",
            "jobReference": job.reference,
            "jobComplete": job.done.is_set(),
        }
        if not job.done.is_set():
            return answer
        if job.error:
            raise job.error
        answer |= {"cacheHit": False, "totalBytesProcessed": str(statement.bytes_processed)}
        if statement.schema is not None:
            answer["schema"] = {"fields": statement.schema}
        if "numDmlAffectedRows" in statement.statistics:
            answer["numDmlAffectedRows"] = statement.statistics["numDmlAffectedRows"]
        if statement.rows is None:
            return answer
        start, count, total = _start(request), min(request.whole("maxResults", PAGE), PAGE), len(statement.rows)
        rows = statement.rows[start : start + count]
        answer["totalRows"] = str(total)
        return {**answer, **_rows(rows, start, total, int64_timestamp)}


PROJECT, DATASETS = "/projects/([^/]+)", "/projects/([^/]+)/datasets"
JOBS, TABLES = "/projects/([^/]+)/jobs", "/projects/([^/]+)/datasets/([^/]+)/tables"
ROUTES: list[tuple[str, str, Callable[..., dict[str, Any] | None]]] = [
    ("POST", DATASETS, FakeBigQuery._insert_dataset),
    ("GET", DATASETS, FakeBigQuery._list_datasets),
    ("GET", f"{DATASETS}/([^/]+)", FakeBigQuery._get_dataset),
    ("DELETE", f"{DATASETS}/([^/]+)", FakeBigQuery._delete_dataset),
    ("GET", TABLES, FakeBigQuery._list_tables),
    ("GET", f"{TABLES}/([^/]+)", FakeBigQuery._get_table),
    ("DELETE", f"{TABLES}/([^/]+)", FakeBigQuery._delete_table),
    ("GET", f"{TABLES}/([^/]+)/data", FakeBigQuery._list_rows),
    ("POST", JOBS, FakeBigQuery._insert_job),
    ("GET", JOBS, FakeBigQuery._list_jobs),
    ("GET", f"{JOBS}/([^/]+)", FakeBigQuery._get_job),
    ("POST", f"{JOBS}/([^/]+)/cancel", FakeBigQuery._cancel_job),
    ("POST", f"{PROJECT}/queries", FakeBigQuery._query),
    ("GET", f"{PROJECT}/queries/([^/]+)", FakeBigQuery._get_results),
]


def _allow(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for name, value in given.items():
        if name not in known and value is not None:
            raise UnsupportedError(f"{name} {where}")


def _location(name: str) -> str:
    """As BigQuery writes it: multi-regions in capitals, regions in small letters."""
    return name.upper() if name.lower() in ("us", "eu") else name.lower()


def _table_reference(name: Name) -> dict[str, str]:
    return dict(zip(("projectId", "datasetId", "tableId"), name, strict=True))


def _table_id(table: Table) -> str:
    return f"{table.name[0]}:{table.name[1]}.{table.name[2]}"


def _start(request: Request) -> int:
    return request.whole("pageToken", 0) or request.whole("startIndex", 0)


def _options(request: Request) -> dict[str, str]:
    """How the values of an answer are to be written."""
    return {key.removeprefix("formatOptions."): value for key, value in request.parameters.items()}


def _int64_timestamp(options: Mapping[str, Any]) -> bool:
    if options.get("timestampOutputFormat"):
        raise UnsupportedError("timestampOutputFormat")
    return str(options.get("useInt64Timestamp", "")).lower() == "true"


def _rows(rows: list[tuple[Any, ...]], start: int, total: int, int64_timestamp: bool) -> dict[str, Any]:
    """A page of rows, and the token of the next one."""
    answer: dict[str, Any] = {"rows": [{"f": [cell(value, int64_timestamp) for value in row]} for row in rows]}
    if start + len(rows) < total:
        answer["pageToken"] = str(start + len(rows))
    return answer


def _page(request: Request, name: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    start = request.whole("pageToken", 0)
    end = start + request.whole("maxResults", 1000)
    answer: dict[str, Any] = {"kind": f"bigquery#{name.removesuffix('s')}List", "etag": "fake", name: items[start:end]}
    if name == "tables":
        answer["totalItems"] = len(items)
    return answer | ({"nextPageToken": str(end)} if end < len(items) else {})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    fake: FakeBigQuery

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self._connections):  # a client would keep it open for its next request
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One connection, kept open, without the delay that small packets have otherwise."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def _serve(self) -> None:
        address = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(content) if content and "json" in self.headers.get("Content-Type", "") else {}
        parameters = {name: values[-1] for name, values in parse_qs(address.query).items()}
        path = address.path.removeprefix("/bigquery/v2")
        request = Request(self.command, path, parameters, body)
        fake = self.server.fake
        fake.requests.append(request)
        fault = fake.take_fault(request)
        code, answer = self._answer(request, fault)
        if fault and fault.error is None:
            self.close_connection = True
            return
        content = json.dumps(answer).encode() if answer is not None else b""
        self.send_response(code)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, request: Request, fault: Fault | None) -> tuple[int, dict[str, Any] | None]:
        try:
            answer = None if fault and not fault.after else self.server.fake.answer(request)
            if fault and fault.error:
                raise fault.error
        except GoogleError as error:
            return error.code, error.body()
        except Exception as error:
            failure = GoogleError("internalError", f"The fake BigQuery itself failed: {error!r}")
            return failure.code, failure.body()
        return (200, answer) if answer is not None else (204, None)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Tests look at `requests` instead."""
