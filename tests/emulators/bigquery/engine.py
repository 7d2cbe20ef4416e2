"""Datasets, tables and statements: what BigQuery does, done by DuckDB.

Every version of a table is a DuckDB table of its own, so that replacing one is a change of the catalog, and statements
that run see the state that they started with.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
from sqlglot import exp

from tests.emulators.bigquery.errors import (
    GoogleError,
    UnsupportedError,
    already_exists,
    invalid,
    invalid_query,
    not_found,
)
from tests.emulators.bigquery.external import Csv, fetch
from tests.emulators.bigquery.sql import (
    ALL_DAYS,
    EXTERNAL_DROP,
    MACROS,
    Relation,
    Scan,
    Source,
    Translator,
    only,
    parse_statement,
    quote,
    type_name,
)
from tests.emulators.bigquery.values import API_TYPES, EPOCH, SIZES, TYPES, milliseconds, utc_now

MEGABYTE = 1 << 20
CATALOG = """
CREATE SCHEMA IF NOT EXISTS fake;
CREATE TABLE IF NOT EXISTS fake.datasets (name VARCHAR[], resource VARCHAR);
CREATE TABLE IF NOT EXISTS fake.tables (name VARCHAR[], data VARCHAR, resource VARCHAR);
CREATE TABLE IF NOT EXISTS fake.sizes (data VARCHAR, day DATE, row_count BIGINT, bytes BIGINT[]);
"""
Name = tuple[str, ...]  # project, dataset, and perhaps table


@dataclass(eq=False)
class Table:
    """One version of a table.

    Attributes:
        data: DuckDB's table with its rows; for an external table, what its files are read into.
    """

    name: Name
    data: str
    resource: dict[str, Any]

    @property
    def label(self) -> str:
        return f"Table {self.name[0]}:{self.name[1]}.{self.name[2]}"

    @property
    def external(self) -> bool:
        return self.resource["type"] == "EXTERNAL"

    @property
    def columns(self) -> dict[str, str]:
        names = {api: name for name, api in API_TYPES.items()}
        return {
            column["name"]: names.get(column["type"], column["type"]) for column in self.resource["schema"]["fields"]
        }

    @property
    def partition(self) -> str:
        field: str = self.resource.get("timePartitioning", {}).get("field", "")
        return next((column for column in self.columns if column.lower() == field.lower()), "")

    @property
    def relation(self) -> str:
        return quote(self.data)

    @property
    def expired(self) -> bool:
        return int(self.resource.get("expirationTime", 1 << 62)) <= int(milliseconds())


@dataclass
class Statement:
    """A statement on its way, and what became of it.

    Attributes:
        location: where its job runs.
        waiting: called with what was read in hand, before anything of it is to be seen by others.
    """

    query: str
    project: str
    default_dataset: Mapping[str, str] = field(default_factory=dict)
    location: str = ""
    maximum_bytes_billed: int | None = None
    dry_run: bool = False
    waiting: Callable[[], None] = lambda: None
    type: str = ""
    schema: list[dict[str, Any]] | None = None
    rows: list[tuple[Any, ...]] | None = None
    bytes_processed: int = 0
    bytes_billed: int = 0
    statistics: dict[str, Any] = field(default_factory=dict)
    connection: duckdb.DuckDBPyConnection | None = None

    def interrupt(self) -> None:
        """End it where it is, if it has begun and not ended."""
        connection = self.connection
        if connection:
            with suppress(duckdb.Error):  # it ended in this moment
                connection.interrupt()


class Engine:
    """One BigQuery of all projects, in memory or in a folder."""

    def __init__(self, storage_url: str, folder: Path | None = None) -> None:
        self.storage_url = storage_url
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        self._database = duckdb.connect(str(folder / "bigquery.duckdb") if folder else ":memory:")
        self._database.execute(CATALOG + MACROS)
        self._lock = threading.RLock()  # held while the catalog or a table changes
        self.datasets: dict[Name, dict[str, Any]] = {}
        self.tables: dict[Name, Table] = {}
        for name, resource in self._database.execute("FROM fake.datasets").fetchall():
            self.datasets[tuple(name)] = json.loads(resource)
        for name, data, resource in self._database.execute("FROM fake.tables").fetchall():
            self.tables[tuple(name)] = Table(tuple(name), data, json.loads(resource))
        self._readers = 0
        kept = {table.data for table in self.tables.values()}
        found = self._database.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'").fetchall()
        self._unused = [data for (data,) in found if data not in kept]  # written when the process died
        self._sweep()

    def close(self) -> None:
        self._database.close()

    # Datasets and tables

    def dataset(self, name: Name) -> dict[str, Any]:
        if name not in self.datasets:
            raise not_found(f"Dataset {name[0]}:{name[1]}")
        return self.datasets[name]

    def create_dataset(self, name: Name, resource: dict[str, Any]) -> None:
        with self._change() as connection:
            if name in self.datasets:
                raise already_exists(f"Dataset {name[0]}:{name[1]}")
            connection.execute("INSERT INTO fake.datasets VALUES (?, ?)", [list(name), json.dumps(resource)])
            self.datasets[name] = resource

    def delete_dataset(self, name: Name, delete_contents: bool) -> None:
        with self._change() as connection:
            self.dataset(name)
            tables = self.list_tables(name)
            if tables and not delete_contents:
                raise GoogleError("resourceInUse", f"Dataset {name[0]}:{name[1]} is still in use")
            for table in tables:
                self._forget(connection, table)
            connection.execute("DELETE FROM fake.datasets WHERE name = ?", [list(name)])
            del self.datasets[name]

    def list_tables(self, dataset: Name) -> list[Table]:
        self.dataset(dataset)
        return [self.tables[name] for name in sorted(self.tables) if name[:2] == dataset and self.look_up(name)]

    def look_up(self, name: Name) -> Table | None:
        """The table of this name; one that has expired is gone."""
        table = self.tables.get(name)
        if table and table.expired:
            with self._change() as connection:
                self._forget(connection, table)
            return None
        return table

    def table(self, name: Name) -> Table:
        self.dataset(name[:2])
        table = self.look_up(name)
        if not table:
            raise not_found(f"Table {name[0]}:{name[1]}.{name[2]}")
        return table

    def delete_table(self, name: Name) -> None:
        with self._change() as connection:
            self._forget(connection, self.table(name))

    def page(self, name: Name, start: int, count: int) -> tuple[Table, list[tuple[Any, ...]], int]:
        """A table, some of its rows, in the order in which they came, and how many it has."""
        with self._reading():
            table = self.table(name)
            if table.external:
                raise invalid(f"Cannot list a table of type {table.resource['type']}.")
            query = f"FROM {table.relation} ORDER BY rowid LIMIT {count} OFFSET {start}"
            return table, self._database.cursor().execute(query).fetchall(), self.size(table)[0]

    def size(self, table: Table) -> tuple[int, int]:
        """Rows and logical bytes."""
        query = "SELECT coalesce(sum(row_count), 0), coalesce(sum(list_sum(bytes)), 0) FROM fake.sizes WHERE data = ?"
        rows, size = self._database.cursor().execute(query, [table.data]).fetchall()[0]
        return int(rows), int(size)

    @contextmanager
    def _change(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Change catalog and tables, all or nothing, one at a time."""
        with self._lock:
            connection = self._database.cursor()
            connection.execute("BEGIN")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _forget(self, connection: duckdb.DuckDBPyConnection, table: Table) -> None:
        connection.execute("DELETE FROM fake.tables WHERE name = ?", [list(table.name)])
        self.tables.pop(table.name, None)
        self._unused.append(table.data)

    def _put(self, connection: duckdb.DuckDBPyConnection, table: Table) -> None:
        old = self.tables.get(table.name)
        if old:
            self._unused.append(old.data)
        connection.execute("DELETE FROM fake.tables WHERE name = ?", [list(table.name)])
        row = [list(table.name), table.data, json.dumps(table.resource)]
        connection.execute("INSERT INTO fake.tables VALUES (?, ?, ?)", row)
        self.tables[table.name] = table

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Keep the rows of tables that are replaced or dropped meanwhile."""
        with self._lock:
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    self._sweep()

    def _sweep(self) -> None:
        while self._unused:
            data = self._unused.pop()
            self._database.execute(f"DROP TABLE IF EXISTS {quote(data)}")
            self._database.execute("DELETE FROM fake.sizes WHERE data = ?", [data])

    def _measure(self, connection: duckdb.DuckDBPyConnection, table: Table, rows: str) -> None:
        """Note the bytes of each column and day of new rows, which is what later statements are billed by."""
        day = f"CAST({quote(table.partition)} AS DATE)" if table.partition else "CAST(NULL AS DATE)"
        sizes = ", ".join(
            f"CAST({SIZES[type_].format(quote(name))} AS BIGINT)" for name, type_ in table.columns.items()
        )
        query = f"INSERT INTO fake.sizes SELECT ?, {day}, count(*), [{sizes}] FROM {rows} GROUP BY 2"
        connection.execute(query, [table.data])

    # Statements

    def locate(self, query: str, project: str, default_dataset: Mapping[str, str]) -> str:
        """Where the datasets are that a statement names."""
        try:
            tables = list(parse_statement(query).find_all(exp.Table))
        except GoogleError:
            return "US"
        names = [_full_name(table, project, default_dataset)[:2] for table in tables if table.db or default_dataset]
        return next((self.datasets[name]["location"] for name in names if name in self.datasets), "US")

    def run(self, statement: Statement) -> None:
        """Run a statement to its end, or do nothing of it."""
        tree = parse_statement(statement.query)
        rule = STATEMENTS.get(type(tree))
        if rule is None:
            raise UnsupportedError(f"statement {type(tree).__name__.upper()}")
        statement.connection = self._database.cursor()
        try:
            with self._reading():
                rule(self, statement, tree)
        except GoogleError:
            statement.bytes_billed = 0
            raise
        except duckdb.Error as error:
            statement.bytes_billed = 0
            raise _google_error(error) from error
        finally:
            statement.connection.close()
            statement.connection = None

    def _translator(self, statement: Statement) -> Translator:
        def find(node: exp.Table) -> Table:
            return self._find(statement, self._name(statement, node))

        return Translator(statement.query, find, utc_now())

    def _name(self, statement: Statement, node: exp.Expression) -> Name:
        """The full name of a table, whose dataset has to be where the job is."""
        if not isinstance(node, exp.Table):
            raise UnsupportedError(type(node).__name__.upper())
        if not node.db and not statement.default_dataset:
            raise invalid_query(f'Table "{node.name}" must be qualified with a dataset (e.g. dataset.table).')
        name = _full_name(node, statement.project, statement.default_dataset)
        if self.datasets.get(name[:2], {}).get("location") != statement.location:
            raise not_found(f"Dataset {name[0]}:{name[1]}", statement.location)
        return name

    def _find(self, statement: Statement, name: Name) -> Table:
        table = self.look_up(name)
        if not table:
            raise not_found(f"Table {name[0]}:{name[1]}.{name[2]}", statement.location)
        return table

    def _bill(self, statement: Statement, scans: Sequence[Scan], query: str) -> bool:
        """Read external tables, stop what would cost more than it may, and say whether to go on: not in a dry run.

        https://cloud.google.com/bigquery/docs/estimate-costs and https://cloud.google.com/bigquery/pricing#on_demand_pricing
        """
        connection = statement.connection
        assert connection
        processed: dict[str, int] = {}
        for scan in scans:
            data = scan.table.data
            if scan.table.external:
                if data not in processed:
                    processed[data] = self._load(connection, scan.table, statement.dry_run)
            else:
                processed[data] = processed.get(data, 0) + _scanned(connection, scan)
        statement.bytes_processed = sum(processed.values())
        billed = sum(max(size, 10 * MEGABYTE) for size in processed.values()) if statement.bytes_processed else 0
        billed = -(-billed // MEGABYTE) * MEGABYTE
        limit = statement.maximum_bytes_billed
        if limit is not None and billed > limit:
            message = f"Query exceeded limit for bytes billed: {limit}. {billed} or higher required."
            raise GoogleError("bytesBilledLimitExceeded", message)
        statement.bytes_billed = billed
        if statement.dry_run and query:
            connection.execute(f"EXPLAIN {query}")
        return not statement.dry_run

    def _load(self, connection: duckdb.DuckDBPyConnection, table: Table, dry_run: bool) -> int:
        """Read the files of an external table into a temporary one; their bytes, which a dry run does not know."""
        configuration = table.resource["externalDataConfiguration"]
        options = configuration["csvOptions"]
        skip = int(options.get("skipLeadingRows", 0))
        name = f"{table.name[1]}.{table.name[2]}"
        reader = Csv(name, table.columns, skip, configuration.get("ignoreUnknownValues", False))
        columns = ", ".join(f"{quote(column)} {TYPES[type_]}" for column, type_ in table.columns.items())
        connection.execute(f"CREATE TEMP TABLE {table.relation} ({columns})")
        size = 0
        if dry_run:
            return size
        with tempfile.TemporaryDirectory(prefix="fake-bigquery-") as folder:
            for uri in configuration["sourceUris"]:
                compressed = configuration.get("compression") == "GZIP"
                file = fetch(self.storage_url, uri, compressed, Path(folder) / "file.csv")
                reader.load(connection, file, table.relation)
                size += file.bytes
        return size

    def _select(self, statement: Statement, tree: exp.Expression) -> None:
        statement.type = "SELECT"
        translator = self._translator(statement)
        relation = translator.relation(tree)
        statement.schema = _fields(relation)
        if self._bill(statement, translator.scans, relation.sql):
            assert statement.connection
            statement.rows = statement.connection.execute(relation.sql).fetchall()
            statement.waiting()

    def _create(self, statement: Statement, tree: exp.Expression) -> None:
        only(tree, "this", "kind", "replace", "exists", "properties", "expression")
        if tree.args["kind"] != "TABLE":
            raise UnsupportedError(f"CREATE {tree.args['kind']}")
        translator = self._translator(statement)
        properties = _Properties(translator, statement.connection, tree.args.get("properties"))
        schema = isinstance(tree.this, exp.Schema)
        name = self._name(statement, tree.this.this if schema else tree.this)
        query, resource = tree.args.get("expression"), properties.resource
        if resource["type"] == "EXTERNAL":
            statement.type = "CREATE_EXTERNAL_TABLE"
        else:
            statement.type = "CREATE_TABLE_AS_SELECT" if query else "CREATE_TABLE"
        if bool(query) == schema or (query and resource["type"] == "EXTERNAL"):
            raise UnsupportedError("CREATE TABLE with anything else than either columns or AS SELECT")
        relation = _named(translator.relation(query), query) if query else None
        resource["schema"] = {"fields": _fields(relation) if relation else properties.columns(tree.this)}
        properties.check_columns()
        operation = self._operation(statement, tree, name, resource)
        scans = translator.scans if operation != "SKIP" else []
        if not self._bill(statement, scans, relation.sql if relation else ""):
            return
        table = Table(name, f"{name[2]}_{uuid.uuid4().hex}", resource)
        if operation != "SKIP":
            self._fill(statement, table, relation)
        try:
            statement.waiting()
            with self._change() as connection:  # another may have made the table in the meantime
                operation = self._operation(statement, tree, name, resource)
                if operation != "SKIP":
                    self._put(connection, table)
        finally:
            if self.tables.get(name) is not table:
                self._unused.append(table.data)
        statement.statistics["ddlOperationPerformed"] = operation

    def _operation(self, statement: Statement, tree: exp.Expression, name: Name, resource: Mapping[str, Any]) -> str:
        """Whether a table is created, replaced or left, and what forbids that."""
        target = dict(zip(("projectId", "datasetId", "tableId"), name, strict=True))
        statement.statistics["ddlTargetTable"] = target
        old = self.look_up(name)
        if not old:
            return "CREATE"
        if tree.args.get("exists"):
            return "SKIP"
        if not tree.args.get("replace"):
            raise already_exists(old.label)
        if old.resource["type"] != resource["type"]:
            raise UnsupportedError(f"CREATE OR REPLACE of a table whose type is {old.resource['type']}")
        specs = [_partitioning(found) for found in (resource, old.resource)]
        if specs[0] != specs[1]:
            raise invalid_query(
                "Cannot replace a table with a different partitioning spec. Instead, DROP the table, and then recreate "
                f"it. New partitioning spec is {specs[0]} and existing spec is {specs[1]}"
            )
        return "REPLACE"

    def _fill(self, statement: Statement, table: Table, relation: Relation | None) -> None:
        """Write the rows of a table that nobody sees yet."""
        connection = statement.connection
        assert connection
        table.resource["creationTime"] = table.resource["lastModifiedTime"] = milliseconds()
        if table.external:
            return
        if relation:
            connection.execute(f"CREATE TABLE {table.relation} AS {relation.sql}")
            self._measure(connection, table, table.relation)
        else:
            columns = ", ".join(f"{quote(name)} {TYPES[type_]}" for name, type_ in table.columns.items())
            connection.execute(f"CREATE TABLE {table.relation} ({columns})")

    def _drop(self, statement: Statement, tree: exp.Expression) -> None:
        only(tree, "tables", "kind", "exists")
        external = bool(EXTERNAL_DROP.match(statement.query))
        if tree.args["kind"] != "TABLE" or len(tree.args["tables"]) != 1:
            raise UnsupportedError(f"DROP {tree.args['kind']}")
        statement.type = "DROP_EXTERNAL_TABLE" if external else "DROP_TABLE"
        name = self._name(statement, tree.args["tables"][0])
        table = self.look_up(name)
        if not table and not tree.args.get("exists"):
            raise not_found(f"Table {name[0]}:{name[1]}.{name[2]}", statement.location)
        if table and table.external != external:
            raise invalid_query(f"{table.label[6:]} has type {table.resource['type']}, which this DROP is not for.")
        statement.statistics["ddlTargetTable"] = dict(zip(("projectId", "datasetId", "tableId"), name, strict=True))
        if not statement.dry_run:
            statement.waiting()
            with self._change() as connection:
                if table and self.tables.get(name):
                    self._forget(connection, self.tables[name])
            statement.statistics["ddlOperationPerformed"] = "DROP" if table else "SKIP"

    def _merge(self, statement: Statement, tree: exp.Expression) -> None:
        """MERGE with one WHEN NOT MATCHED THEN INSERT.

        As in BigQuery, two that run at once both insert what neither found at its start:
        https://cloud.google.com/bigquery/docs/data-manipulation-language#concurrent_jobs
        """
        only(tree, "this", "using", "on", "whens")
        statement.type = "MERGE"
        translator = self._translator(statement)
        target, source = translator.source(tree.this), translator.source(tree.args["using"])
        assert target.scan
        table: Table = target.scan.table
        if table.external:
            raise UnsupportedError("MERGE into an external table")
        with translator.scope([target, source]):
            condition = translator.boolean(tree.args["on"])
        target.scan.days = condition.days.get(target.scan, ALL_DAYS)  # all of the source is needed
        with translator.scope([source]):
            values = _inserted(translator, tree.args["whens"].expressions, table, source)
        query = f"SELECT {values} FROM {source.sql} ANTI JOIN {target.sql} ON {condition.sql}"
        if not self._bill(statement, translator.scans, query):
            return
        connection = statement.connection
        assert connection
        new = f"new_{uuid.uuid4().hex}"
        connection.execute(f"CREATE TEMP TABLE {new} AS {query}")
        statement.waiting()
        with self._lock:
            if self.look_up(table.name) is not table:
                raise invalid_query(f"Transaction is aborted due to concurrent update against {table.label}.")
            connection.execute("BEGIN")
            connection.execute(f"INSERT INTO {table.relation} FROM {new}")
            self._measure(connection, table, new)
            connection.execute("COMMIT")
            table.resource["lastModifiedTime"] = milliseconds()
        [(count,)] = connection.execute(f"SELECT count(*) FROM {new}").fetchall()
        statement.statistics |= {"numDmlAffectedRows": str(count)}
        statement.statistics["dmlStats"] = {"insertedRowCount": str(count)}


STATEMENTS: dict[type[exp.Expression], Callable[[Engine, Statement, exp.Expression], None]] = {
    exp.Select: Engine._select,
    exp.Create: Engine._create,
    exp.Drop: Engine._drop,
    exp.Merge: Engine._merge,
}


class _Properties:
    """What a CREATE TABLE says beside its columns."""

    def __init__(
        self, translator: Translator, connection: duckdb.DuckDBPyConnection | None, node: exp.Expression | None
    ) -> None:
        self._translator, self._connection = translator, connection
        self.resource: dict[str, Any] = {"type": "TABLE"}
        properties = node.expressions if node else []
        if any(isinstance(property_, exp.ExternalProperty) for property_ in properties):
            self.resource["type"] = "EXTERNAL"
            self.resource["externalDataConfiguration"] = {"sourceFormat": "", "csvOptions": {}}
        for property_ in properties:
            self._take(property_)
        if self._external and not (self._external["sourceFormat"] and self._external.get("sourceUris")):
            raise UnsupportedError("CREATE EXTERNAL TABLE without format and uris")

    @property
    def _external(self) -> dict[str, Any]:
        found: dict[str, Any] = self.resource.get("externalDataConfiguration", {})
        return found

    def _take(self, node: exp.Expression) -> None:
        if isinstance(node, exp.ExternalProperty):
            return
        if isinstance(node, exp.PartitionedByProperty):
            self.resource["timePartitioning"] = {"type": "DAY", "field": _partition_column(node.this)}
        elif isinstance(node, (exp.Cluster, exp.ClusterProperty)):
            self.resource["clustering"] = {"fields": [column.name for column in node.expressions]}
        elif isinstance(node, exp.FileFormatProperty):
            self._option("format", node.this)
        elif isinstance(node, exp.Property) and isinstance(node.this, exp.Var):
            self._option(node.name.lower(), node.args["value"])
        else:
            raise UnsupportedError(type(node).__name__.upper())

    def _option(self, name: str, node: exp.Expression) -> None:
        csv_options = self._external.get("csvOptions", {})
        if name == "description":
            self.resource["description"] = self._value(node, "STRING")
        elif name == "labels":
            self.resource["labels"] = dict(self._pair(pair) for pair in _elements(node))
        elif name == "expiration_timestamp":
            moment = self._value(node, "TIMESTAMP")
            self.resource["expirationTime"] = str((moment - EPOCH) // timedelta(milliseconds=1))
        elif self._external and name in EXTERNAL_OPTIONS:
            EXTERNAL_OPTIONS[name](self._external, csv_options, self, node)
        else:
            raise UnsupportedError(f"option {name}")

    def _pair(self, node: exp.Expression) -> tuple[str, str]:
        if not isinstance(node, exp.Tuple) or len(node.expressions) != 2:
            raise UnsupportedError(f"label {node.sql()}")
        key, value = (self._value(part, "STRING") for part in node.expressions)
        return key, value

    def _value(self, node: exp.Expression, type_: str) -> Any:
        assert self._connection
        return self._connection.execute(f"SELECT {self._translator.constant(node, type_)}").fetchall()[0][0]

    def _format(self, node: exp.Expression) -> str:
        if node.name.upper() != "CSV":
            raise UnsupportedError(f"format {node.name}")
        return "CSV"

    def _uris(self, node: exp.Expression) -> list[str]:
        uris = [str(self._value(uri, "STRING")) for uri in _elements(node)]
        for uri in uris:
            if not uri.startswith("gs://") or "*" in uri:
                raise UnsupportedError(f"URI {uri}")
        return uris

    def _compression(self, node: exp.Expression) -> str:
        compression = str(self._value(node, "STRING"))
        if compression not in ("GZIP", "NONE"):
            raise UnsupportedError(f"compression {compression}")
        return compression

    def columns(self, schema: exp.Schema) -> list[dict[str, Any]]:
        """The fields of a list of columns."""
        fields = []
        for node in schema.expressions:
            if not isinstance(node, exp.ColumnDef):
                raise UnsupportedError(f"{type(node).__name__.upper()} in a list of columns")
            only(node, "this", "kind", "constraints")
            type_ = type_name(node.args["kind"])
            if self._external and type_ not in ("STRING", "INT64", "NUMERIC", "TIMESTAMP", "DATE"):
                raise UnsupportedError(f"{type_} in an external table")
            options: dict[str, Any] = {}
            for constraint in node.args.get("constraints") or []:
                options |= self._column_options(constraint)
            fields.append({"name": node.name, "type": API_TYPES.get(type_, type_), "mode": "NULLABLE", **options})
        return fields

    def _column_options(self, node: exp.Expression) -> dict[str, str]:
        kind = node.args.get("kind")
        if not isinstance(kind, exp.Properties) or any(option.name != "description" for option in kind.expressions):
            raise UnsupportedError(f"{node.sql(dialect='bigquery')} of a column")
        return {option.name: self._value(option.args["value"], "STRING") for option in kind.expressions}

    def check_columns(self) -> None:
        """Refuse to partition or cluster by what is no column, or none of a fitting type."""
        types = {column["name"].lower(): column["type"] for column in self.resource["schema"]["fields"]}
        partition = self.resource.get("timePartitioning", {}).get("field")
        if partition and types.get(partition.lower()) != "TIMESTAMP":
            raise invalid_query(f"PARTITION BY DATE({partition}) needs a column of type TIMESTAMP")
        for name in self.resource.get("clustering", {}).get("fields", []):
            if name.lower() not in types:
                raise invalid_query(f"The field specified for clustering cannot be found in the schema: {name}")


EXTERNAL_OPTIONS: dict[str, Callable[[dict[str, Any], dict[str, Any], _Properties, exp.Expression], None]] = {
    "format": lambda table, _, of, node: table.update(sourceFormat=of._format(node)),
    "uris": lambda table, _, of, node: table.update(sourceUris=of._uris(node)),
    "compression": lambda table, _, of, node: table.update(compression=of._compression(node)),
    "ignore_unknown_values": lambda table, _, of, node: table.update(ignoreUnknownValues=of._value(node, "BOOL")),
    "skip_leading_rows": lambda _, csv, of, node: csv.update(skipLeadingRows=str(of._value(node, "INT64"))),
}


def _elements(node: exp.Expression) -> list[exp.Expression]:
    if not isinstance(node, exp.Array):
        raise UnsupportedError(f"{node.sql(dialect='bigquery')} where an array is expected")
    return node.expressions


def _partition_column(node: exp.Expression) -> str:
    if isinstance(node, exp.Anonymous) and str(node.this).upper() == "DATE" and len(node.expressions) == 1:
        return str(node.expressions[0].name)
    raise UnsupportedError(f"PARTITION BY {node.sql(dialect='bigquery')}")


def _partitioning(resource: Mapping[str, Any]) -> str:
    """How a table is partitioned and clustered, as BigQuery writes it."""
    field = resource.get("timePartitioning", {}).get("field")
    clustering = resource.get("clustering", {}).get("fields")
    parts = [f"interval(type:day,field:{field})"] * bool(field)
    parts += [f"clustering({','.join(clustering or [])})"] * bool(clustering)
    return " ".join(parts) or "none"


def _full_name(node: exp.Table, project: str, default_dataset: Mapping[str, str]) -> Name:
    if re.search(r"[*$@]|INFORMATION_SCHEMA", f"{node.catalog}.{node.db}.{node.name}"):
        raise UnsupportedError(f"table {node.sql(dialect='bigquery')}")
    if node.db:
        return node.catalog or project, node.db, node.name
    return default_dataset.get("projectId", project), default_dataset["datasetId"], node.name


def _named(relation: Relation, query: exp.Expression) -> Relation:
    """A query whose columns can become those of a table."""
    for place, node in enumerate(query.expressions, 1):
        if not isinstance(node, (exp.Alias, exp.Column, exp.Star)):
            raise invalid_query(f"CREATE TABLE columns must be named, but column {place} has no name")
    return relation


def _fields(relation: Relation) -> list[dict[str, Any]]:
    return [
        {"name": name, "type": API_TYPES.get(type_, type_), "mode": "NULLABLE"}
        for name, type_ in relation.columns.items()
    ]


def _scanned(connection: duckdb.DuckDBPyConnection, scan: Scan) -> int:
    """Bytes of the columns that are used, in the partitions that are left."""
    places = [place for place, name in enumerate(scan.table.columns, 1) if name in scan.columns]
    if not places:
        return 0
    days = " OR ".join(f"day BETWEEN DATE '{first}' AND DATE '{last}'" for first, last in scan.days) or "false"
    pruned = "true" if scan.days is ALL_DAYS else f"({days})"
    total = " + ".join(f"bytes[{place}]" for place in places)
    query = f"SELECT coalesce(sum({total}), 0) FROM fake.sizes WHERE data = ? AND {pruned}"
    return int(connection.execute(query, [scan.table.data]).fetchall()[0][0])


def _inserted(translator: Translator, whens: list[exp.Expression], table: Table, source: Source) -> str:
    """The values that a MERGE inserts, in the order of the table's columns."""
    if len(whens) != 1:
        raise UnsupportedError("MERGE with anything else than one WHEN NOT MATCHED THEN INSERT")
    [when] = whens
    only(when, "then")
    insert = when.args["then"]
    if not isinstance(insert, exp.Insert):
        raise UnsupportedError("MERGE with anything else than INSERT")
    only(insert, "this", "expression")
    if isinstance(insert.this, exp.Var):  # INSERT ROW
        if [name.lower() for name in source.columns] != [name.lower() for name in table.columns]:
            raise UnsupportedError("INSERT ROW of columns that are not those of the table, in its order")
        columns = values = [exp.column(exp.to_identifier(name, quoted=True)) for name in source.columns]
    else:
        columns, values = insert.this.expressions, insert.args["expression"].expressions
    if len(columns) != len(values):
        raise invalid_query(f"Inserted row has wrong column count; Has {len(values)}, expected {len(columns)}")
    given: dict[str, str] = {}
    types = {name.lower(): type_ for name, type_ in table.columns.items()}
    for column, value in zip(columns, values, strict=True):
        if column.name.lower() not in types:
            raise invalid_query(f"Column {column.name} is not present in table {'.'.join(table.name)}")
        given[column.name.lower()] = translator.coerce(translator.value(value), types[column.name.lower()]).sql
    return ", ".join(
        f"{given.get(name.lower(), f'CAST(NULL AS {TYPES[type_]})')} AS {quote(name)}"
        for name, type_ in table.columns.items()
    )


def _google_error(error: duckdb.Error) -> GoogleError:
    message = str(error).partition(": ")[2]
    if isinstance(error, duckdb.InterruptException):
        return GoogleError("stopped", "Job execution was cancelled: User requested cancellation")
    if "GROUP BY" in message:
        return invalid_query("SELECT list expression references a column which is neither grouped nor aggregated")
    if isinstance(error, (duckdb.InvalidInputException, duckdb.OutOfRangeException, duckdb.ConversionException)):
        return invalid_query(message)
    return UnsupportedError(message)
