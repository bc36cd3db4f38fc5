"""SQL over both tiers of a store by DuckDB, and the tables as frames of Daft. Reads only, whatever a query says.

A query is one SELECT. DuckDB may open the store's own sealed files and nothing else: no other file, no network, no extension that
is not there. What is not sealed yet is made into rows of the same tables when a query names them.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..codec import DAMAGE
from ..errors import InvalidInput, MissingExtra, OdographError, StoreError, did_you_mean
from ..tables.files import DamagedFile
from ..tables.schema import Table, arrow
from ..tables.shared import Shared, unanswered
from ..types import AnyRecord
from . import databases
from .interruptible import interruptible
from .layout import FACTS, RECORDS, SUMMARY, TABLES, TRAJECTORIES, fact_of, row_of
from .lines import Gone, decode, read_ranges

if TYPE_CHECKING:
    from daft import DataFrame

    from .catalog import Catalog
    from .reader import Reader

#: The views, and what a row of each is.
VIEWS = {
    "trajectories": "a trajectory: its summary",
    "facts": "a record: what people filter and aggregate",
    "records": "a record: all of it",
    "messages": "a message that the calls of a model refer to",
}
Frame = Literal["trajectories", "facts", "records"]
FRAMES: tuple[Frame, ...] = get_args(Frame)
_BATCH = 2000
_ATTEMPTS = 5

_TRAJECTORIES = """
select id, task->>'$' as task, agent, coalesce(model, first_model) as model,
  coalesce(status, case when source is null and list_contains({alive}::varchar[], writer) then 'running'
    else 'unterminated' end) as status,
  steps, coalesce(stated_calls, llm_calls) as llm_calls, actions,
  coalesce(stated_prompt, prompt_tokens) as prompt_tokens, coalesce(stated_completion, completion_tokens) as completion_tokens,
  reward, make_timestamp(coalesce(started, case when source is null then start_time end) // 1000) as started,
  case when started is not null then (end_source - started) / 1e9 when source is null then (end_time - start_time) / 1e9 end
    as duration,
  group_name, from_json(tags, '["VARCHAR"]') as tags, policy_version->>'$' as policy_version, task_id, attempt, scenario,
  fork, source, error
from {rows}
"""
_FACTS = "select * replace (make_timestamp(epoch_us(time)) as time) from {rows}"
_RECORDS = """
select * exclude (stream, n, same, hash, ids, logprobs_exact, stream_writer, schema_version)
  replace (coalesce(logprobs_exact, logprobs::double[]) as logprobs)
from {rows} where kind not in ('message', 'ids', 'damaged')
"""
_MESSAGES = "select trajectory, writer, stream, n, same, body from {rows} where kind = 'message'"
#: Of each view: the table that it is of, and its query.
_MADE = {
    "trajectories": (TRAJECTORIES, _TRAJECTORIES),
    "facts": (FACTS, _FACTS),
    "records": (RECORDS, _RECORDS),
    "messages": (RECORDS, _MESSAGES),
}


class Rows:
    """What a query gave. Read it once: by iterating (a dict for each row), or as a whole."""

    def __init__(
        self,
        connect: Callable[[], Any],
        execute: Callable[[Any], Any],
        damaged: Callable[[Exception], bool],
        shared: Shared | None,
        timeout: float | None,
    ) -> None:
        """`execute` runs the query by the connection of `connect`. `damaged` gets an error of it, and says whether `connect` has
        other files since: those that are whole, or that a compaction made. `timeout`: seconds, without what is done with rows."""
        self._connect = connect
        self._execute = execute
        self._damaged = damaged
        self._shared = shared
        self._timeout = self._left = timeout
        self._connection: Any = None
        self._given = False
        #: The names of the columns: of the same name twice, the second has `_1` at its end, which a dict needs.
        self.columns: list[str] = _apart(self._read(lambda connection: [one[0] for one in connection.description]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self.tuples():
            yield dict(zip(self.columns, row, strict=True))

    def tuples(self) -> Iterator[tuple[Any, ...]]:
        """The rows as tuples, in the order of `columns`."""
        while rows := self._read(lambda connection: connection.fetchmany(_BATCH)):
            self._given = True
            yield from rows

    def list(self) -> list[dict[str, Any]]:
        """All rows, a dict each."""
        rows = self._read(lambda connection: connection.fetchall())
        return [dict(zip(self.columns, row, strict=True)) for row in rows]

    def arrow(self) -> Any:
        """All rows as an Arrow table."""

        def read(connection: Any) -> Any:
            reader = getattr(connection, "to_arrow_reader", None) or connection.fetch_record_batch  # of DuckDB before 2
            return reader().read_all()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the rows are copied once
            return self._read(read)

    def pandas(self) -> Any:
        """All rows as a pandas DataFrame."""
        return self._read(lambda connection: connection.df())

    def _read(self, read: Callable[[Any], Any]) -> Any:
        """What DuckDB answers. Where damaged files stop it before rows were given, the query is asked again, without what is
        lost. Raises InvalidInput, StoreError."""
        duckdb = databases.duckdb()
        while True:
            try:
                if self._connection is None:
                    connection = self._connect()
                    found = self._wait(connection, lambda connection: read(self._execute(connection)))
                    self._connection = connection
                    return found
                return self._wait(self._connection, read)
            except Gone:  # others sealed or merged the files meanwhile
                pass
            except DamagedFile as error:  # that machines share: seen before the first row
                if not self._damaged(error):
                    raise
            except OdographError:
                raise
            except duckdb.OutOfMemoryException as error:
                raise StoreError(f"the query needs more memory than it may have: {_first(error)}; ask for less at once") from None
            except (duckdb.Error, TypeError, ValueError, OverflowError, OSError) as error:
                of_files = _of_files(error)
                of_some = (duckdb.InvalidInputException, duckdb.PermissionException)  # of some pages, and of a file that is gone
                may_be = of_files or (self._shared is None and isinstance(error, of_some))
                if may_be and not self._given and self._damaged(error):
                    self._connection = None
                elif of_files and self._shared is not None:
                    raise unanswered(error, self._shared, "be read") from None
                elif of_files:
                    raise StoreError(
                        f"the sealed tier can't be read: {_first(error)}; `odograph doctor` says what is damaged"
                    ) from None
                else:
                    raise InvalidInput(f"the query failed: {_first(error)}; the tables are {', '.join(VIEWS)}") from None

    def _wait(self, connection: Any, do: Callable[[Any], Any]) -> Any:
        """What `do` makes of the connection. Ctrl-C and the end of the time end the wait."""
        began = time.monotonic()
        try:
            found = interruptible(lambda: do(connection), connection.interrupt, self._left)
        except TimeoutError:
            raise StoreError(
                f"the query took more than {self._timeout:g} s and was stopped; ask for less, or give it more time"
            ) from None
        if self._left is not None:
            self._left = max(0.0, self._left - (time.monotonic() - began))
        return found


def _apart(names: list[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        found.append(next(f for f in (name, *(f"{name}_{n}" for n in range(1, len(names)))) if f not in found))
    return found


def _of_files(error: Exception) -> bool:
    """Whether DuckDB, or Arrow for it, could not read the files, and not what the query says is wrong."""
    duckdb = databases.duckdb()
    of_reading = (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException, duckdb.FatalException, OSError)
    if isinstance(error, duckdb.PermissionException):  # the query names a file that is none of the store's
        return False
    # of some damage, and of Arrow's readers, DuckDB tells with an error that is also of a query
    said = str(error) if isinstance(error, duckdb.InvalidInputException) else ""
    return isinstance(error, of_reading) or type(error) is duckdb.Error or "parquet" in said.lower() or "IOError: " in said


def sql(
    reader: Reader, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None, timeout: float | None = None
) -> Rows:
    """What a SELECT gives. Raises InvalidInput for another statement or a mistake in it, MissingExtra, StoreError."""
    duckdb = databases.duckdb()
    if not isinstance(query, str):
        raise InvalidInput(f"a query is a text, not {type(query).__name__}")
    if isinstance(parameters, str | bytes) or not (parameters is None or hasattr(parameters, "__iter__")):
        raise InvalidInput(f"parameters are a list, or a dict for $names, not {type(parameters).__name__}")
    if timeout is not None and not (type(timeout) in (int, float) and 0 < timeout <= threading.TIMEOUT_MAX):
        raise InvalidInput(f"timeout is a number of seconds above 0, or None for no limit, not {timeout!r}")
    try:
        query.encode()
        statements = databases.parser().extract_statements(query)
    except (duckdb.Error, UnicodeEncodeError) as error:
        raise InvalidInput(f"the query can't be read: {_first(error)}") from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(str(one.type).rsplit(".", 1)[-1] for one in statements) or "none"
        raise InvalidInput(f"a query is one SELECT; found {kinds}")
    text = query.lower()
    wanted = [view for view in VIEWS if view in text or "query" in text]  # `query(...)` puts a name together
    tables = {_MADE[view][0].name for view in wanted}
    given = parameters if parameters is None or isinstance(parameters, Mapping) else list(parameters)

    there: list[list[str]] = []

    def files() -> list[list[str]]:
        return [reader.lake.files(name) for name in sorted(tables)] if reader.lake.exists else []

    def connect() -> Any:
        nonlocal there
        there = files()
        return _connected(reader, wanted, tables) if wanted else _described()

    def damaged(error: Exception) -> bool:
        if files() != there:  # a compaction deleted what was being read
            return True
        if isinstance(error, duckdb.PermissionException):  # the query names a file that is none of the store's
            return False
        known = {name: reader.lake.damaged(TABLES[name]) for name in tables}
        try:
            return any(reader.lake.damaged(TABLES[name], str(error)) - known[name] for name in tables)
        except Gone:
            return True  # deleted since

    return Rows(connect, lambda connection: connection.execute(query, given), damaged, reader.lake.shared, timeout)


def frame(reader: Reader, table: Frame) -> DataFrame:
    """A table as a frame of Daft, of both tiers. Raises InvalidInput, MissingExtra, StoreError."""
    if table not in FRAMES:
        raise InvalidInput(f"no table {table!r}; there are: {', '.join(FRAMES)}{did_you_mean(str(table), FRAMES)}")
    pa = arrow()  # before Daft, which may load it as the program dies of
    try:
        import daft
    except ImportError:
        raise MissingExtra("a frame", "worlds") from None
    if pa.default_memory_pool().backend_name == "mimalloc":  # see `worlds.processors`: Daft frees buffers on threads of its own
        pa.set_memory_pool(pa.system_memory_pool())
    if table == "trajectories":
        return daft.from_arrow(sql(reader, "select * from trajectories").arrow())
    of = FACTS if table == "facts" else RECORDS
    files, local = _both(reader, {of.name})
    whole, rest = _parted(reader, of, files[of.name])
    here = local[of.name] if rest is None else pa.concat_tables([rest, local[of.name]])
    if not whole:
        return daft.from_arrow(here)
    sealed = reader.lake.commits.frame(of.name, whole)
    return sealed.concat(daft.from_arrow(here).select(*[sealed[n] for n in sealed.column_names])) if here.num_rows else sealed


def _connected(reader: Reader, wanted: list[str], tables: set[str]) -> Any:
    """A connection to a database with these views, and the sealed files of these tables behind them alone.

    A database takes 25 ms to make, and no query changes it. So one over files alone is kept until other files count.
    """
    files, local = _both(reader, tables)
    alive = sorted(reader.catalog.alive_writers()) if TRAJECTORIES.name in tables else []
    parted = {name: _parted(reader, TABLES[name], files[name]) for name in tables}
    lasting = all(files[name] and rest is None and not local[name].num_rows for name, (_, rest) in parted.items())
    made_of = ([files[name] for name in sorted(tables)], alive)
    if lasting and (database := reader.databases.find(tuple(wanted), made_of)) is not None:
        return database.cursor()
    database = databases.made()
    _views(reader, database, wanted, parted, local, alive, lasting)
    root = reader.lake.root
    paths = [] if reader.lake.shared is not None else [str(root / path) for whole, _ in parted.values() for path in whole]
    databases.lock(database, paths)
    if reader.lake.shared is None and lasting:
        reader.databases.keep(tuple(wanted), made_of, database)
        return database.cursor()
    return database


def _described() -> Any:
    """A connection to a database with the views as empty tables, for queries that ask which there are, such as SHOW TABLES."""
    database = databases.made()
    for view, (table, made) in _MADE.items():
        database.register("odograph", table.arrow.empty_table())
        database.execute(f"create table {view} as {made.format(rows='odograph', alive='[]')}")
        database.unregister("odograph")
    databases.lock(database, [])
    return database


def _parted(reader: Reader, table: Table, paths: list[str]) -> tuple[list[str], Any]:
    """Of sealed files those that are whole, and an Arrow table of what can be read of damaged ones, or was made anew for them;
    None where no file is damaged."""
    damaged = reader.lake.damaged(table).intersection(paths)
    if not damaged:
        return paths, None
    from .mending import facts, summaries

    whole = [path for path in paths if path not in damaged]
    if table is TRAJECTORIES:
        whole, found = [], [*summaries(reader.lake, paths)]
    elif table is FACTS:
        found = [*facts(reader.lake, sorted(damaged))]
    else:
        parts = (reader.lake.batches(path, table, damaged=reader.lake.left_out) for path in sorted(damaged))
        found = [one for part in parts for one in part]
    return whole, arrow().concat_tables([table.arrow.empty_table(), *found])


def _views(
    reader: Reader,
    connection: Any,
    wanted: list[str],
    sealed: dict[str, tuple[list[str], Any]],
    local: dict[str, Any],
    alive: list[str],
    lasting: bool,
) -> None:
    """Makes the views. What is registered belongs to its connection: views of a database that is kept name none of it."""
    for name in {_MADE[view][0].name for view in wanted}:
        whole, rest = sealed[name]
        parts = [_sealed(reader, connection, TABLES[name], whole, lasting)] if whole else []
        if rest is not None:
            connection.register(f"odograph_damaged_{name}", rest)
            parts.append(f"odograph_damaged_{name}")
        if name == TRAJECTORIES.name and parts:
            one = f"select * exclude (files, groups, offsets, rows) from {parts[0]} where root<>''"
            if len(whole) != 1:  # of a trajectory that was sealed again the last row counts
                one += " qualify row_number() over (partition by id order by revision desc)=1"
            if local[name].num_rows:
                one = f"select * from ({one}) where id not in (select id from odograph_{name})"
            parts = [f"({one})"]
        if not lasting:  # the table of what is not sealed has all columns, also where it has no rows
            connection.register(f"odograph_{name}", local[name])
            parts.append(f"odograph_{name}")
        # a query in a query takes 0.1 ms more to plan, each time
        rows = parts[0] if len(parts) == 1 else f"({' union all by name '.join(f'select * from {one}' for one in parts)})"
        for view, (table, made) in _MADE.items():
            if view in wanted and name == table.name:
                connection.execute(f"create view {view} as {made.format(rows=rows, alive=_list(alive))}")


#: How many sets of columns files have, and which columns: those of earlier versions have fewer.
_SHAPES = """
with columns as materialized (from parquet_schema({files}))
select (
  select count(distinct said)
  from (select list((name, type, repetition_type, logical_type) order by name) as said from columns group by file_name)
), (select list(distinct name) from columns)
"""


def _sealed(reader: Reader, connection: Any, table: Table, paths: list[str], lasting: bool) -> str:
    """What DuckDB reads the sealed files of a table from. `lasting`: for many queries. Each of them would join the columns of the
    files by their names, which takes 1 to 2 ms for 13 files; that all have the same columns is seen once, in 9 ms."""
    found = reader.lake.commits.dataset(table, paths)
    if found is None:
        files = _list(str(reader.lake.root / path) for path in paths)
        ((count, names),) = connection.execute(_SHAPES.format(files=files)).fetchall() if lasting else [(0, table.names)]
        read = f"read_parquet({files})" if count == 1 else f"read_parquet({files}, union_by_name=true)"
        if set(table.names) <= {*names}:
            return read
        connection.register("odograph", table.arrow.empty_table())
        connection.execute(f"create table odograph_none_{table.name} as select * from odograph")
        connection.unregister("odograph")
        return f"(select * from {read} union all by name select * from odograph_none_{table.name})"
    connection.register(f"odograph_sealed_{table.name}", found)
    return f"odograph_sealed_{table.name}"


def _both(reader: Reader, tables: set[str]) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Of each table the sealed files, and an Arrow table of what the journal holds beside them."""
    for _ in range(_ATTEMPTS):
        catalog, lake = reader.catalog, reader.lake
        catalog.look()
        there = lake.exists
        last = lake.commits.last(TRAJECTORIES.name) if there else 0
        with suppress(Gone):
            local = _local(catalog, tables)
            files = {name: lake.files(name) if there else [] for name in tables}
            if (lake.commits.last(TRAJECTORIES.name) if lake.exists else 0) == last:
                return files, local
    raise StoreError("other processes sealed the store during each attempt to read it; run the query again")


def _local(catalog: Catalog, tables: set[str]) -> dict[str, Any]:
    """What the journal holds, as rows."""
    ids = catalog.unsealed()
    names = [SUMMARY[name].name for name in SUMMARY]
    if not ids:
        return {name: _none(name) for name in tables}
    about = {row[0]: dict(zip(names, row, strict=True)) for row in catalog.rows(ids)}
    found: dict[str, list[dict[str, Any]]] = {"records": [], "facts": [], "trajectories": [*about.values()]}
    for id in ids if tables & {"records", "facts"} else ():
        records: list[AnyRecord] = []
        for file, start, stop in catalog.places(id):
            for line in next(read_ranges(file.path, [(start, stop)])).split(b"\n"):
                with suppress(*DAMAGE):  # nothing, which stands behind the last line, is a damaged one, too
                    one = decode(line, file.writer, file.version)
                    if "records" in tables:
                        found["records"].append(row_of(line, file.writer, file.version))
                    if isinstance(one, AnyRecord):
                        records.append(one)
        if "facts" in tables:
            replaced = {r.supersedes for r in records if r.supersedes}
            of = about.get(id, {})
            for record in records:
                row = fact_of(record, of.get("group_name"), of.get("agent"))
                found["facts"].append({**row, "replaced": record.id in replaced})
    return {name: _table(_columns_of(TABLES[name], names), found[name]) for name in tables}


@cache
def _none(name: str) -> Any:
    return _columns_of(TABLES[name], [SUMMARY[one].name for one in SUMMARY]).empty_table()


def _columns_of(table: Table, summary: Sequence[str]) -> Any:
    """The schema of what the journal holds of a table; `summary`: the columns of a trajectory that is not sealed."""
    return arrow().schema([table.arrow.field(name) for name in summary]) if table is TRAJECTORIES else table.arrow


def _table(schema: Any, rows: list[dict[str, Any]]) -> Any:
    pa = arrow()
    return pa.Table.from_arrays([pa.array([row[f.name] for row in rows], f.type) for f in schema], schema=schema)


def _list(texts: Any) -> str:
    return f"[{', '.join(map(databases.quoted, texts))}]"


def _first(error: Exception) -> str:
    """The first line of what DuckDB says."""
    return str(error).strip().split("\n", 1)[0]
