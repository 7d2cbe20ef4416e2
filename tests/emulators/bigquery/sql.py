"""GoogleSQL to DuckDB's SQL: types and names are resolved here, and what is not known here is refused.

sqlglot only parses. Functions keep the names that they have in BigQuery, and each is translated by a rule below, so
that nothing gets DuckDB's meaning by accident: its `concat` skips NULL, its `/` answers NULL for a division by zero,
its `avg` of decimals is a double, its `count_if` of no rows is NULL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any

from sqlglot import exp, parse
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.errors import SqlglotError

from tests.emulators.bigquery.errors import UnsupportedError, invalid_query
from tests.emulators.bigquery.values import TYPES, read_date, read_timestamp

# NUMERIC by NUMERIC, rounded half away from zero to nine decimals, by integers: DuckDB would divide doubles.
MACROS = """
CREATE OR REPLACE MACRO fake.unscaled(x) AS CAST(abs(x) * 1000000000 AS HUGEINT);
CREATE OR REPLACE MACRO fake.quotient(n, d) AS
    CASE WHEN d = 0 THEN error('division by zero') ELSE
        CASE WHEN (n < 0) <> (d < 0) THEN -1 ELSE 1 END
        * CAST((2 * fake.unscaled(n) * 1000000000 + fake.unscaled(d)) // (2 * fake.unscaled(d)) AS DECIMAL(38, 0))
        * CAST('0.000000001' AS DECIMAL(10, 9))
    END;
CREATE OR REPLACE MACRO fake.float_quotient(n, d) AS CASE WHEN d = 0 THEN error('division by zero') ELSE n / d END;
CREATE OR REPLACE MACRO fake.int64(s) AS
    CASE WHEN s IS NULL OR regexp_full_match(s, '[+-]?([0-9]+|0[xX][0-9a-fA-F]+)') THEN CAST(s AS BIGINT)
    ELSE error('Bad int64 value: ' || s) END;
CREATE OR REPLACE MACRO fake.numeric(s) AS
    CASE WHEN s IS NULL OR regexp_full_match(s, '[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)') THEN CAST(s AS DECIMAL(38, 9))
    ELSE error('Invalid NUMERIC value: ' || s) END;
"""

# Name of a function: types of its arguments, type of its value, DuckDB's expression.
FUNCTIONS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "COUNTIF": (("BOOL",), "INT64", "count(CASE WHEN {0} THEN 1 END)"),
    "DATE": (("TIMESTAMP",), "DATE", "CAST({0} AS DATE)"),
    "ENDS_WITH": (("STRING", "STRING"), "BOOL", "ends_with({0}, {1})"),
    "LENGTH": (("STRING",), "INT64", "length({0})"),
    "LOWER": (("STRING",), "STRING", "lower({0})"),
    "MD5": (("STRING",), "BYTES", "unhex(md5({0}))"),
    "STARTS_WITH": (("STRING", "STRING"), "BOOL", "starts_with({0}, {1})"),
    "TO_HEX": (("BYTES",), "STRING", "lower(hex({0}))"),
    "UPPER": (("STRING",), "STRING", "upper({0})"),
}

# From type, to type: DuckDB's expression. https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_functions
CASTS = {
    ("INT64", "STRING"): "CAST({0} AS VARCHAR)",
    ("BOOL", "STRING"): "CAST({0} AS VARCHAR)",
    ("DATE", "STRING"): "CAST({0} AS VARCHAR)",
    ("NUMERIC", "STRING"): "rtrim(rtrim(CAST({0} AS VARCHAR), '0'), '.')",
    ("STRING", "INT64"): "fake.int64({0})",
    ("STRING", "NUMERIC"): "fake.numeric({0})",
    ("INT64", "NUMERIC"): "CAST({0} AS DECIMAL(38, 9))",
    ("INT64", "FLOAT64"): "CAST({0} AS DOUBLE)",
    ("NUMERIC", "FLOAT64"): "CAST({0} AS DOUBLE)",
    ("NUMERIC", "INT64"): "CAST({0} AS BIGINT)",
    ("FLOAT64", "INT64"): "CAST(round({0}) AS BIGINT)",
    ("BOOL", "INT64"): "CAST({0} AS BIGINT)",
    ("TIMESTAMP", "DATE"): "CAST({0} AS DATE)",
    ("DATE", "TIMESTAMP"): "CAST({0} AS TIMESTAMP)",
}
COERCIONS = {("INT64", "NUMERIC"), ("INT64", "FLOAT64"), ("NUMERIC", "FLOAT64")}

COMPARISONS = {exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
ARITHMETIC = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}
NUMBERS = ("INT64", "NUMERIC", "FLOAT64")
PARTS = ("YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND")
FORMATS = {"%F": "%Y-%m-%d", "%T": "%H:%M:%S"}
# The grammar does not know it: it is read as DROP TABLE, and told apart again by these words.
EXTERNAL_DROP = re.compile(r"((?:\s|--[^\n]*\n)*DROP\s+)EXTERNAL(\s+TABLE\s)", re.IGNORECASE)

Days = Sequence[tuple[date, date]]
ALL_DAYS: Days = ((date.min, date.max),)


class GoogleSQL(BigQuery):
    """BigQuery's grammar, with functions left as they are written."""

    class Parser(BigQuery.Parser):
        FUNCTIONS: dict[str, Callable[..., exp.Expression]] = {}  # noqa: RUF012
        FUNCTION_PARSERS = {  # noqa: RUF012
            name: rule for name, rule in BigQuery.Parser.FUNCTION_PARSERS.items() if name in ("CAST", "EXTRACT")
        }
        NO_PAREN_FUNCTIONS: dict[Any, Any] = {}  # noqa: RUF012


def parse_statement(text: str) -> exp.Expression:
    """The tree of the one statement of a text."""
    try:
        drop = EXTERNAL_DROP.match(text)
        known = drop[1] + drop[2] + text[drop.end() :] if drop else text
        found = [tree for tree in parse(known, read=GoogleSQL) if tree]
    except SqlglotError as error:
        details = error.errors[0] if getattr(error, "errors", None) else {}
        where = f" at [{details['line']}:{details['col']}]" if details.get("line") else ""
        raise invalid_query(f"Syntax error: {details.get('description') or error}{where}") from error
    if not found:
        raise invalid_query("Syntax error: Unexpected end of statement")
    if len(found) > 1:
        raise UnsupportedError("several statements in one query")
    if isinstance(found[0], exp.Command):
        raise UnsupportedError(f"statement {text.strip().split()[0].upper()}")
    return found[0]


def only(node: exp.Expression, *names: str) -> None:
    """Refuse a node with any part that the caller does not translate."""
    for name, value in node.args.items():
        if value and name not in names:
            raise UnsupportedError(f"{name.strip('_').upper()} in {type(node).__name__.upper()}")


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


@dataclass(eq=False)
class Scan:
    """One use of a table in a statement: what is read of it is what is billed."""

    table: Any
    columns: set[str] = field(default_factory=set)
    days: Days = ALL_DAYS


@dataclass(frozen=True)
class Source:
    """What a FROM clause offers under one name."""

    name: str
    columns: Mapping[str, str]
    relation: str
    place: str
    scan: Scan | None = None

    @property
    def sql(self) -> str:
        return f"{self.relation} AS {self.place}"

    def find(self, name: str) -> str | None:
        return next((column for column in self.columns if column.lower() == name.lower()), None)


@dataclass(frozen=True)
class Value:
    """A translated expression.

    Attributes:
        type: None for a bare NULL.
        constant: the value of a literal.
        partition: the scan whose partitions this is the day or time of.
        days: the days of partitions that a condition leaves of scans.
    """

    sql: str
    type: str | None
    constant: Any = None
    partition: Scan | None = None
    days: Mapping[Scan, Days] = field(default_factory=dict)


@dataclass(frozen=True)
class Relation:
    """A translated query."""

    sql: str
    columns: Mapping[str, str]


class Translator:
    """Translates one statement.

    Attributes:
        scans: the tables that it reads.
    """

    def __init__(self, query: str, find_table: Callable[[exp.Table], Any], now: datetime) -> None:
        self.query, self.find_table, self.now = query, find_table, now
        self.scans: list[Scan] = []
        self._sources: list[Source] = []
        self._aliases: dict[str, Value] = {}
        self._places = count()

    # Queries

    def relation(self, node: exp.Expression) -> Relation:
        """A SELECT."""
        if isinstance(node, exp.Subquery):
            only(node, "this")
            return self.relation(node.this)
        if not isinstance(node, exp.Select):
            raise UnsupportedError(type(node).__name__.upper())
        only(node, "expressions", "from_", "where", "group", "having", "order", "limit", "offset", "distinct")
        sources = [self.source(node.args["from_"].this)] if node.args.get("from_") else []
        with self.scope(sources):
            where = self._where(node.args.get("where"))
            items = self._items(node.expressions)
            distinct = self._distinct(node)
            select = ", ".join(f"{value.sql} AS {quote(name)}" for name, value in items)
            self._aliases = {name.lower(): value for name, value in items}
            tail = self._group(node, items) + self._having(node) + self._order(node, items) + self._limit(node)
        from_clause = f" FROM {sources[0].sql}" if sources else ""
        columns = {name: value.type or "INT64" for name, value in items}
        if len({name.lower() for name in columns}) < len(items):
            names = [name for name, _ in items]
            found = sorted({name for name in names if [n.lower() for n in names].count(name.lower()) > 1})
            raise invalid_query(
                "Duplicate column names in the result are not supported when a destination table is present. "
                f"Found duplicate(s): {', '.join(found)}"
            )
        return Relation(f"SELECT {distinct}{select}{from_clause}{where}{tail}", columns)

    def source(self, node: exp.Expression) -> Source:
        """A table or a subquery in a FROM clause."""
        place = f"s{next(self._places)}"
        if isinstance(node, exp.Subquery):
            only(node, "this", "alias")
            relation = self.relation(node.this)
            return Source(node.alias, relation.columns, f"({relation.sql})", place)
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise UnsupportedError(f"{type(node).__name__.upper()} in FROM")
        only(node, "this", "db", "catalog", "alias")
        table = self.find_table(node)
        scan = Scan(table)
        self.scans.append(scan)
        return Source(node.alias_or_name, table.columns, table.relation, place, scan)

    @contextmanager
    def scope(self, sources: list[Source]) -> Iterator[None]:
        """Let names mean the columns of these sources."""
        outside = self._sources, self._aliases
        self._sources, self._aliases = sources, {}
        yield
        self._sources, self._aliases = outside

    def _where(self, node: exp.Where | None) -> str:
        if not node:
            return ""
        condition = self.boolean(node.this)
        self.prune(condition)
        return f" WHERE {condition.sql}"

    def prune(self, condition: Value) -> None:
        """Read only the partitions that a condition leaves."""
        for scan, days in condition.days.items():
            scan.days = days

    def _items(self, nodes: list[exp.Expression]) -> list[tuple[str, Value]]:
        items: list[tuple[str, Value]] = []
        anonymous = count()
        for node in nodes:
            if isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star)):
                items += self._star(node)
            elif isinstance(node, exp.Alias):
                items.append((node.alias, self.value(node.this)))
            elif isinstance(node, exp.Column):
                items.append((node.name, self.value(node)))
            else:
                items.append((f"f{next(anonymous)}_", self.value(node)))
        return [(name, value if value.type else self.coerce(value, "INT64")) for name, value in items]

    def _star(self, node: exp.Expression) -> list[tuple[str, Value]]:
        only(node.this if isinstance(node, exp.Column) else node)
        if not self._sources:
            raise invalid_query(f"SELECT * must have a FROM clause at {self.place(node)}")
        wanted = node.table.lower() if isinstance(node, exp.Column) else ""
        sources = [source for source in self._sources if not wanted or source.name.lower() == wanted]
        if not sources:
            raise invalid_query(f"Unrecognized name: {node.table} at {self.place(node)}")
        return [(name, self._read(source, name)) for source in sources for name in source.columns]

    def _distinct(self, node: exp.Select) -> str:
        distinct = node.args.get("distinct")
        if distinct:
            only(distinct)
        return "DISTINCT " if distinct else ""

    def _group(self, node: exp.Select, items: list[tuple[str, Value]]) -> str:
        group = node.args.get("group")
        if not group:
            return ""
        only(group, "expressions")
        return " GROUP BY " + ", ".join(self._key(key, items) for key in group.expressions)

    def _key(self, node: exp.Expression, items: list[tuple[str, Value]]) -> str:
        """What to group or order by: a position, else an expression in which aliases come before columns."""
        if isinstance(node, exp.Literal) and not node.is_string:
            if not 1 <= int(node.name) <= len(items):
                raise invalid_query(f"GROUP BY or ORDER BY is out of SELECT column number range: {node.name}")
            return node.name
        names = [name.lower() for name, _ in items]
        if isinstance(node, exp.Column) and not node.table and node.name.lower() in names:
            return str(names.index(node.name.lower()) + 1)
        return self.value(node).sql

    def _having(self, node: exp.Select) -> str:
        having = node.args.get("having")
        return f" HAVING {self.boolean(having.this).sql}" if having else ""

    def _order(self, node: exp.Select, items: list[tuple[str, Value]]) -> str:
        order = node.args.get("order")
        if not order:
            return ""
        only(order, "expressions")
        keys = []
        for key in order.expressions:
            only(key, "this", "desc", "nulls_first")
            direction = "DESC" if key.args.get("desc") else "ASC"
            nulls = "FIRST" if key.args.get("nulls_first") else "LAST"
            keys.append(f"{self._key(key.this, items)} {direction} NULLS {nulls}")
        return " ORDER BY " + ", ".join(keys)

    def _limit(self, node: exp.Select) -> str:
        clauses = ""
        for name in ("limit", "offset"):
            clause = node.args.get(name)
            if clause:
                only(clause, "expression")
                if not clause.expression.is_int:
                    raise UnsupportedError(f"{name.upper()} that is no number")
                clauses += f" {name.upper()} {int(clause.expression.name)}"
        return clauses

    # Expressions

    def value(self, node: exp.Expression) -> Value:
        """Any expression."""
        rule = RULES.get(type(node))
        if rule is None:
            raise UnsupportedError(f"{type(node).__name__.upper()} in an expression")
        return rule(self, node)

    def boolean(self, node: exp.Expression) -> Value:
        """An expression that is a condition."""
        value = self.value(node)
        if value.type not in ("BOOL", None):
            raise invalid_query(f"A condition should return type BOOL, but returns {value.type}")
        return value

    def constant(self, node: exp.Expression, type_: str) -> str:
        """DuckDB's expression for a value of this type that names no columns."""
        with self.scope([]):
            return self.coerce(self.value(node), type_).sql

    def place(self, node: exp.Expression) -> str:
        """Line and column of the first word of an expression."""
        starts = [found.meta["start"] for found in node.walk() if found._meta and "start" in found.meta]
        before = self.query[: min(starts, default=0)]
        return f"[{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}]"

    def coerce(self, value: Value, type_: str) -> Value:
        """A value as another type, where BigQuery does that unasked.

        https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_rules#coercion
        """
        if value.type == type_:
            return value
        if value.type is None:
            return Value(f"CAST(NULL AS {TYPES[type_]})", type_)
        if (value.type, type_) in COERCIONS:
            return Value(CASTS[value.type, type_].format(value.sql), type_)
        if value.type == "STRING" and type_ in ("TIMESTAMP", "DATE") and isinstance(value.constant, str):
            return _literal_time(value.constant, type_)
        raise UnsupportedError(f"{value.type} where {type_} is expected")

    def unify(self, values: list[Value], comparing: bool = False) -> list[Value]:
        """Values as the one type that all of them can take."""
        types = {value.type for value in values} - {None}
        if comparing and types == {"NUMERIC", "FLOAT64"}:
            values = [_exact(value) for value in values]
            types = {value.type for value in values}
        if types == {"NUMERIC", "FLOAT64"}:
            raise UnsupportedError("NUMERIC together with FLOAT64: cast one of them")
        order = ("STRING", "TIMESTAMP", "DATE", "INT64", "NUMERIC", "FLOAT64")
        wanted = max(types, key=order.index) if len(types) > 1 and types <= set(order) else next(iter(types), "INT64")
        if types == {"STRING", "TIMESTAMP"} or types == {"STRING", "DATE"}:
            wanted = (types - {"STRING"}).pop()
        return [self.coerce(value, wanted) for value in values]

    def _column(self, node: exp.Column) -> Value:
        only(node, "this", "table")
        alias = self._aliases.get(node.name.lower())
        if alias and not node.table:
            return replace(alias, sql=f"({alias.sql})")
        sources = [source for source in self._sources if not node.table or source.name.lower() == node.table.lower()]
        found = [(source, column) for source in sources if (column := source.find(node.name))]
        if len(found) > 1:
            raise invalid_query(f"Column name {node.name} is ambiguous at {self.place(node)}")
        if not found and node.table and sources:
            raise invalid_query(f"Name {node.name} not found inside {node.table} at {self.place(node.this)}")
        if not found:
            raise invalid_query(f"Unrecognized name: {node.table or node.name} at {self.place(node)}")
        return self._read(*found[0])

    def _read(self, source: Source, column: str) -> Value:
        partition = None
        if source.scan:
            source.scan.columns.add(column)
            partition = source.scan if column == source.scan.table.partition else None
        return Value(f"{source.place}.{quote(column)}", source.columns[column], partition=partition)

    def _literal(self, node: exp.Literal) -> Value:
        if node.is_string:
            return Value(text(node.name), "STRING", node.name)
        if node.is_int:
            return Value(f"CAST({node.name} AS BIGINT)", "INT64", int(node.name))
        return Value(f"CAST({node.name} AS DOUBLE)", "FLOAT64", node.name)

    def _compare(self, node: exp.Binary) -> Value:
        only(node, "this", "expression")
        left, right = self.unify([self.value(node.this), self.value(node.expression)], comparing=True)
        return _comparison(left, COMPARISONS[type(node)], right)

    def _between(self, node: exp.Between) -> Value:
        only(node, "this", "low", "high")
        value, low, high = self.unify([self.value(node.args[name]) for name in ("this", "low", "high")], comparing=True)
        return _and(_comparison(value, ">=", low), _comparison(value, "<=", high))

    def _in(self, node: exp.In) -> Value:
        only(node, "this", "expressions")
        value, *values = self.unify([self.value(part) for part in (node.this, *node.expressions)], comparing=True)
        return Value(f"({value.sql} IN ({', '.join(item.sql for item in values)}))", "BOOL")

    def _like(self, node: exp.Like) -> Value:
        only(node, "this", "expression", "negate")
        value, pattern = (self.coerce(self.value(part), "STRING") for part in (node.this, node.expression))
        like = "NOT LIKE" if node.args.get("negate") else "LIKE"
        return Value(f"({value.sql} {like} {pattern.sql} ESCAPE '\\')", "BOOL")

    def _is(self, node: exp.Is) -> Value:
        only(node, "this", "expression")
        if not isinstance(node.expression, (exp.Null, exp.Boolean)):
            raise UnsupportedError(f"IS {node.expression.sql()}")
        wanted = "NULL" if isinstance(node.expression, exp.Null) else str(node.expression.this).upper()
        value = self.value(node.this) if wanted == "NULL" else self.boolean(node.this)
        return Value(f"({value.sql} IS {wanted})", "BOOL")

    def _and(self, node: exp.And) -> Value:
        return _and(self.boolean(node.this), self.boolean(node.expression))

    def _or(self, node: exp.Or) -> Value:
        left, right = self.boolean(node.this), self.boolean(node.expression)
        days = {scan: [*left.days[scan], *right.days[scan]] for scan in left.days if scan in right.days}
        return Value(f"({left.sql} OR {right.sql})", "BOOL", days=days)

    def _not(self, node: exp.Not) -> Value:
        return Value(f"(NOT {self.boolean(node.this).sql})", "BOOL")

    def _paren(self, node: exp.Paren) -> Value:
        return self.value(node.this)

    def _negative(self, node: exp.Neg) -> Value:
        value = self.value(node.this)
        if value.type not in NUMBERS:
            raise UnsupportedError(f"-{value.type}")
        return Value(f"(-{value.sql})", value.type)

    def _arithmetic(self, node: exp.Binary) -> Value:
        left, right = self.unify([self.value(node.this), self.value(node.expression)])
        sign = ARITHMETIC[type(node)]
        if left.type not in NUMBERS:
            raise UnsupportedError(f"{left.type} {sign} {right.type}")
        sql = f"({left.sql} {sign} {right.sql})"
        return Value(f"CAST({sql} AS {TYPES['NUMERIC']})" if left.type == "NUMERIC" else sql, left.type)

    def _divide(self, node: exp.Div) -> Value:
        left, right = self.unify([self.value(node.this), self.value(node.expression)])
        if left.type == "NUMERIC":
            return Value(f"fake.quotient({left.sql}, {right.sql})", "NUMERIC")
        left, right = self.coerce(left, "FLOAT64"), self.coerce(right, "FLOAT64")
        return Value(f"fake.float_quotient({left.sql}, {right.sql})", "FLOAT64")

    def _concatenate(self, node: exp.DPipe) -> Value:
        return self._concat([self.value(node.this), self.value(node.expression)])

    def _cast(self, node: exp.Cast) -> Value:
        only(node, "this", "to", "_type")
        type_, value = type_name(node.to), self.value(node.this)
        if value.type == "STRING" and type_ in ("TIMESTAMP", "DATE") and isinstance(value.constant, str):
            return _literal_time(value.constant, type_)
        if value.type in (type_, None):
            return self.coerce(value, type_)
        if (value.type, type_) not in CASTS:
            raise UnsupportedError(f"CAST({value.type} AS {type_})")
        partition = value.partition if type_ == "DATE" else None
        return Value(CASTS[value.type, type_].format(value.sql), type_, partition=partition)

    def _if(self, node: exp.If) -> Value:
        condition = self.boolean(node.this)
        if not node.args.get("false"):
            raise UnsupportedError("IF with 2 arguments")
        yes, no = self.unify([self.value(node.args["true"]), self.value(node.args["false"])])
        return Value(f"CASE WHEN {condition.sql} THEN {yes.sql} ELSE {no.sql} END", yes.type)

    def _case(self, node: exp.Case) -> Value:
        only(node, "ifs", "default")
        results = [branch.args["true"] for branch in node.args["ifs"]] + [node.args.get("default") or exp.Null()]
        *values, default = self.unify([self.value(result) for result in results])
        conditions = [self.boolean(branch.this).sql for branch in node.args["ifs"]]
        branches = " ".join(f"WHEN {when} THEN {then.sql}" for when, then in zip(conditions, values, strict=True))
        return Value(f"CASE {branches} ELSE {default.sql} END", default.type)

    def _extract(self, node: exp.Extract) -> Value:
        part, value = node.this.name.upper(), self.value(node.expression)
        if value.type not in ("TIMESTAMP", "DATE") or part not in (PARTS if value.type == "TIMESTAMP" else PARTS[:3]):
            raise UnsupportedError(f"EXTRACT({part} FROM {value.type})")
        return Value(f"extract({part} FROM {value.sql})", "INT64")

    # Functions

    def _function(self, node: exp.Anonymous) -> Value:
        only(node, "this", "expressions")
        name, arguments = str(node.this).upper(), node.expressions
        if name in SPECIAL:
            return SPECIAL[name](self, arguments)
        values = [self.value(argument) for argument in arguments]
        if name in GENERIC:
            return GENERIC[name](self, values)
        if name not in FUNCTIONS:
            raise UnsupportedError(f"function {name}")
        types, type_, sql = FUNCTIONS[name]
        if len(values) != len(types):
            raise UnsupportedError(f"{name} with {len(values)} arguments")
        values = [self.coerce(value, wanted) for value, wanted in zip(values, types, strict=True)]
        partition = values[0].partition if name == "DATE" else None
        return Value(sql.format(*(value.sql for value in values)), type_, partition=partition)

    def _count(self, arguments: list[exp.Expression]) -> Value:
        [argument] = _exactly(1, arguments, "COUNT")
        if isinstance(argument, exp.Star):
            only(argument)
            return Value("count(*)", "INT64")
        distinct = isinstance(argument, exp.Distinct)
        if distinct:
            only(argument, "expressions")
            [argument] = _exactly(1, argument.expressions, "COUNT(DISTINCT)")
        return Value(f"count({'DISTINCT ' if distinct else ''}{self.value(argument).sql})", "INT64")

    def _sum(self, values: list[Value]) -> Value:
        [value] = _exactly(1, values, "SUM")
        if value.type not in NUMBERS:
            raise UnsupportedError(f"SUM({value.type})")
        return Value(f"CAST(sum({value.sql}) AS {TYPES[value.type]})", value.type)

    def _avg(self, values: list[Value]) -> Value:
        total, number = self._sum(values), f"count({values[0].sql})"
        if total.type == "NUMERIC":
            average = f"fake.quotient({total.sql}, CAST({number} AS {TYPES['NUMERIC']}))"
            return Value(f"CASE WHEN {number} > 0 THEN {average} END", "NUMERIC")
        return Value(f"avg({values[0].sql})", "FLOAT64")

    def _minimum(self, values: list[Value]) -> Value:
        [value] = _exactly(1, values, "MIN")
        return Value(f"min({value.sql})", value.type)

    def _maximum(self, values: list[Value]) -> Value:
        [value] = _exactly(1, values, "MAX")
        return Value(f"max({value.sql})", value.type)

    def _coalesce(self, values: list[Value]) -> Value:
        values = self.unify(values)
        return Value(f"coalesce({', '.join(value.sql for value in values)})", values[0].type)

    def _nullif(self, values: list[Value]) -> Value:
        left, right = _exactly(2, self.unify(values, comparing=True), "NULLIF")
        return Value(f"nullif({left.sql}, {right.sql})", left.type)

    def _concat(self, values: list[Value]) -> Value:
        if any(value.type not in ("STRING", None) for value in values):
            raise UnsupportedError(f"CONCAT({', '.join(str(value.type) for value in values)})")
        return Value(f"({' || '.join(value.sql for value in values)})", "STRING")

    def _substr(self, values: list[Value]) -> Value:
        if len(values) not in (2, 3) or values[0].type != "STRING":
            raise UnsupportedError("SUBSTR of something else than STRING, position and length")
        if any(not isinstance(value.constant, int) or value.constant < 1 for value in values[1:]):
            raise UnsupportedError("SUBSTR with a position or length that is no positive number")
        return Value(f"substr({', '.join(value.sql for value in values)})", "STRING")

    def _round(self, values: list[Value]) -> Value:
        digits = values[1].constant if len(values) == 2 else 0
        if len(values) > 2 or values[0].type not in NUMBERS or not isinstance(digits, int) or digits > 9:
            raise UnsupportedError("ROUND of something else than a number, and a number of digits up to 9")
        [value] = values[:1] if values[0].type == "NUMERIC" else [self.coerce(values[0], "FLOAT64")]
        return Value(f"CAST(round({value.sql}, {digits}) AS {TYPES[value.type or '']})", value.type)

    def _abs(self, values: list[Value]) -> Value:
        [value] = _exactly(1, values, "ABS")
        if value.type not in NUMBERS:
            raise UnsupportedError(f"ABS({value.type})")
        return Value(f"abs({value.sql})", value.type)

    def _format_timestamp(self, values: list[Value]) -> Value:
        pattern, moment = _exactly(2, values, "FORMAT_TIMESTAMP")
        elements = re.findall(r"%.?", pattern.constant) if isinstance(pattern.constant, str) else ["%"]
        if set(elements) - {"%F", "%T", "%Y", "%m", "%d", "%H", "%M", "%S"}:
            raise UnsupportedError(f"FORMAT_TIMESTAMP({pattern.sql}, ...)")
        found = re.sub("%[FT]", lambda element: FORMATS[element[0]], pattern.constant)
        return Value(f"strftime({self.coerce(moment, 'TIMESTAMP').sql}, {text(found)})", "STRING")

    def _now(self, values: list[Value]) -> Value:
        _exactly(0, values, "CURRENT_TIMESTAMP")
        return Value(f"TIMESTAMP '{self.now}'", "TIMESTAMP")

    def _add(self, arguments: list[exp.Expression], sign: str = "+") -> Value:
        moment, interval = _exactly(2, arguments, "TIMESTAMP_ADD")
        unit = interval.args["unit"].name.upper() if isinstance(interval, exp.Interval) else ""
        if unit not in PARTS[2:] or not re.fullmatch(r"-?\d+", interval.this.name):
            raise UnsupportedError(f"TIMESTAMP_ADD with {interval.sql()}")
        value = self.coerce(self.value(moment), "TIMESTAMP")
        return Value(f"({value.sql} {sign} {interval.this.name} * INTERVAL 1 {unit})", "TIMESTAMP")

    def _subtract(self, arguments: list[exp.Expression]) -> Value:
        return self._add(arguments, "-")

    def _truncate(self, arguments: list[exp.Expression], type_: str) -> Value:
        moment, part = _exactly(2, arguments, f"{type_}_TRUNC")
        if part.name.upper() not in (PARTS if type_ == "TIMESTAMP" else PARTS[:3]):
            raise UnsupportedError(f"{type_}_TRUNC to {part.name.upper()}")
        value = self.coerce(self.value(moment), type_)
        return Value(f"CAST(date_trunc('{part.name}', {value.sql}) AS {type_})", type_)

    def _truncate_timestamp(self, arguments: list[exp.Expression]) -> Value:
        return self._truncate(arguments, "TIMESTAMP")

    def _truncate_date(self, arguments: list[exp.Expression]) -> Value:
        return self._truncate(arguments, "DATE")


RULES: dict[type[exp.Expression], Callable[[Translator, Any], Value]] = {
    exp.Column: Translator._column,
    exp.Literal: Translator._literal,
    exp.Null: lambda _, node: Value("NULL", None),
    exp.Boolean: lambda _, node: Value(str(node.this).upper(), "BOOL"),
    **dict.fromkeys(COMPARISONS, Translator._compare),
    **dict.fromkeys(ARITHMETIC, Translator._arithmetic),
    exp.Div: Translator._divide,
    exp.DPipe: Translator._concatenate,
    exp.Between: Translator._between,
    exp.In: Translator._in,
    exp.Like: Translator._like,
    exp.Is: Translator._is,
    exp.And: Translator._and,
    exp.Or: Translator._or,
    exp.Not: Translator._not,
    exp.Paren: Translator._paren,
    exp.Neg: Translator._negative,
    exp.Cast: Translator._cast,
    exp.If: Translator._if,
    exp.Case: Translator._case,
    exp.Extract: Translator._extract,
    exp.Anonymous: Translator._function,
}
# Functions that look at how their arguments are written.
SPECIAL: dict[str, Callable[[Translator, list[exp.Expression]], Value]] = {
    "COUNT": Translator._count,
    "DATE_TRUNC": Translator._truncate_date,
    "TIMESTAMP_ADD": Translator._add,
    "TIMESTAMP_SUB": Translator._subtract,
    "TIMESTAMP_TRUNC": Translator._truncate_timestamp,
}
# Functions whose type follows from their arguments.
GENERIC: dict[str, Callable[[Translator, list[Value]], Value]] = {
    "ABS": Translator._abs,
    "AVG": Translator._avg,
    "COALESCE": Translator._coalesce,
    "CONCAT": Translator._concat,
    "CURRENT_TIMESTAMP": Translator._now,
    "FORMAT_TIMESTAMP": Translator._format_timestamp,
    "IFNULL": Translator._coalesce,
    "MAX": Translator._maximum,
    "MIN": Translator._minimum,
    "NULLIF": Translator._nullif,
    "ROUND": Translator._round,
    "SUBSTR": Translator._substr,
    "SUM": Translator._sum,
}


def type_name(node: exp.DataType) -> str:
    """BigQuery's name of a type."""
    name = node.sql(dialect="bigquery")
    if name not in TYPES:
        raise UnsupportedError(f"type {name}")
    return name


def _exactly(number: int, arguments: list[Any], name: str) -> list[Any]:
    if len(arguments) != number:
        raise UnsupportedError(f"{name} with {len(arguments)} arguments")
    return arguments


def _literal_time(literal: str, type_: str) -> Value:
    try:
        value = read_timestamp(literal) if type_ == "TIMESTAMP" else read_date(literal)
    except ValueError as error:
        raise invalid_query(f'Could not cast literal "{literal}" to type {type_}') from error
    return Value(f"{type_} '{value}'", type_, value)


def _exact(value: Value) -> Value:
    """A FLOAT64 literal beside a NUMERIC is compared as the NUMERIC that it is written as."""
    if value.type != "FLOAT64" or not re.fullmatch(r"\d{0,18}\.?\d{0,9}", str(value.constant or "-")):
        return value
    return Value(f"CAST({value.constant} AS {TYPES['NUMERIC']})", "NUMERIC")


def _and(left: Value, right: Value) -> Value:
    days = {**left.days, **right.days}
    for scan in left.days:
        if scan in right.days:
            pairs = [(max(a, c), min(b, d)) for a, b in left.days[scan] for c, d in right.days[scan]]
            days[scan] = [(first, last) for first, last in pairs if first <= last]
    return Value(f"({left.sql} AND {right.sql})", "BOOL", days=days)


def _comparison(left: Value, sign: str, right: Value) -> Value:
    """A comparison, and the partitions that it leaves: constants only.

    https://cloud.google.com/bigquery/docs/querying-partitioned-tables
    """
    sql = f"({left.sql} {sign} {right.sql})"
    if right.partition and left.constant is not None:
        left, right, sign = right, left, sign.translate(str.maketrans("<>", "><"))
    if not left.partition or not isinstance(right.constant, date) or sign in ("<>", "><"):
        return Value(sql, "BOOL")
    moment = right.constant
    step = timedelta(microseconds=1) if isinstance(moment, datetime) else timedelta(days=1)
    first = {"=": moment, ">": moment + step, ">=": moment}.get(sign, date.min)
    last = {"=": moment, "<": moment - step, "<=": moment}.get(sign, date.max)
    return Value(sql, "BOOL", days={left.partition: [(_day(first), _day(last))]})


def _day(moment: date) -> date:
    return moment.date() if isinstance(moment, datetime) else moment
