"""SQL over a store: both tiers as one, the questions of the documentation, and nothing outside of the store."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import subprocess
import sys
import textwrap
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.cli import main
from odograph.codec import encode
from odograph.columns import BASE
from odograph.store import committing, databases, keeping, lake, layout
from odograph.store import query as asking
from odograph.store.rows import SHARED, create
from odograph.types import Record, Start

from .test_sealing import fill

duckdb = pytest.importorskip("duckdb")
DOCS = Path(__file__).parents[2] / "docs"
QUESTIONS = re.findall(r"```sql\n(.*?)```", (DOCS / "sql.md").read_text(), re.S)
ASKED = [
    "select * exclude (duration) from trajectories order by id",
    "select * from facts order by trajectory, time, kind",
    "select * from records order by id",
    "select * from messages order by trajectory, stream, n",
]


def answers(store: odograph.Store) -> list[Any]:
    return [store.sql(one).list() for one in ASKED]


def test_both_tiers_are_one(store: odograph.Store) -> None:
    """A query gives the same before and after sealing, half sealed, with late rewards, and after a compaction."""
    ids = fill(store)
    before = answers(store)
    assert [len(rows) for rows in before] == [6, 72, 72, 18]
    store.seal()
    assert answers(store) == before
    fill(store, 1)
    store.append(ids[0]).reward(4.0)
    before = answers(store)
    assert [len(rows) for rows in before] == [7, 85, 85, 21]
    assert store.sql("select reward from trajectories where id=?", [ids[0]]).list() == [{"reward": 4.0}]
    store.seal()
    assert answers(store) == before
    store.compact(grace=0)
    assert answers(store) == before


def test_a_query_says_of_a_trajectory_what_a_list_says(store: odograph.Store) -> None:
    """... sealed or not: of a run that says all, of one that was left or goes on, and of imports that state totals, or no times."""
    about = {"scenario": "s", "runtime": {"task_id": "t", "attempt": 2}}
    for model in ("stated", None):
        with store.record({"q": 1}, agent="a", model=model, group="g", tags=["x", "'"], policy_version=3, metadata=about) as run:
            for asked in ("first", "second"):
                with run.step() as step:
                    usage = {"prompt_tokens": 10, "completion_tokens": 7}
                    tokens = {"prompt_token_ids": [*range(500)], "token_ids": [1, 2], "logprobs": [-0.1, -0.5]}
                    step.llm_call(model=asked, messages=[], response="a", usage=usage, **tokens)
                    step.action("look", {}, "seen")
            run.reward(0.5)
            run.finish(status="failed", error={"kind": "broken"})
    source = {"source": {"format": "x", "totals": {"llm_calls": 9, "prompt_tokens": 90, "completion_tokens": 45}}}
    steps = [{"llm_calls": [{"model": "m", "response": "a"}]}]
    store.add(
        {"task": "i", "steps": steps, "start": {"source_time": 10**18, "metadata": source}, "end": {"source_time": 10**18 + 3}}
    )
    store.add({"task": "no times", "steps": steps, "start": {"metadata": source}})
    store.add([Start(trajectory="no end", id="n", time=1, seq=1, task="n", metadata=source)])
    with odograph.open(store.root) as other:
        other.record("left", policy_version="v").note("x")
        with other.record("lost") as lost, lost.step() as step:
            step.llm_call(model="m", messages=[{"role": "user", "content": "q"}], response="a")
    # messages stay of a run of which all else is lost, and a line is damaged
    (path,) = (path for path in (store.root / "journal").iterdir() if lost.id.encode() in path.read_bytes())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(one for one in lines if b'"message"' in one or lost.id.encode() not in one) + b"{}\n")
    going = odograph.open(store.root)
    going.record("running").note("x")

    def text(value: Any) -> str | None:
        return value if value is None or isinstance(value, str) else encode(value).decode()

    for _ in range(2):
        found = store.sql("select * exclude (fork) from trajectories").list()
        rows = {row.pop("id"): row for row in found}
        assert len(rows) == len(found) == 7
        records = store.sql("select kind, logprobs from records").list()
        assert len(records) == sum(len(t.records) for t in store.trajectories())
        assert [row["logprobs"] for row in records if row["logprobs"]] == [[-0.1, -0.5]] * 4
        for one in store.summaries():
            expected = {name: getattr(one, name) for name in rows[one.id] if name != "group_name"}
            expected |= {name: text(expected[name]) for name in ("task", "policy_version", "source", "error")}
            began = one.started and datetime(1970, 1, 1) + timedelta(microseconds=one.started // 1000)
            assert rows[one.id] == {**expected, "group_name": one.group, "tags": one.tags or None, "started": began}
        assert sorted({one.status for one in store.summaries()}) == ["completed", "failed", "running", "unterminated"]
        assert store.sql("select time from facts where trajectory='no end'").list() == [{"time": datetime(1970, 1, 1)}]
        assert store.sql("select trajectory from messages").list() == [{"trajectory": lost.id}]
        assert store.sql("select status from trajectories where task='running'").list() == [{"status": "running"}]
        with odograph.open(store.root) as other:
            other.seal()
    going.close()
    assert store.sql("select status from trajectories where task='running'").list() == [{"status": "unterminated"}]


def test_what_another_process_has_just_sealed_counts_once(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """... though its lines are in a journal, too, whose writer lives, and neither the folder nor the catalog shows that it was."""
    monkeypatch.setattr(keeping, "_LOOK_SECONDS", 1e9)
    fill(store, 1)
    with odograph.open(store.root) as reader, odograph.open(store.root) as other:
        before = reader.sql(ASKED[1]).list()
        os.utime(store.root / "journal", (1e9, 1e9))
        assert other.count() == reader.count() == 1
        other.seal()
        assert not reader.backend.reader.catalog._must_look()
        assert reader.sql(ASKED[1]).list() == before


@pytest.mark.parametrize("sealed", [False, True])
def test_the_documented_questions_are_answered(store: odograph.Store, sealed: bool) -> None:
    """Each of the ten questions runs, over a journal and over a sealed store."""
    fill(store)
    if sealed:
        store.seal()
    assert len(QUESTIONS) == 10
    found = [store.sql(one).list() for one in QUESTIONS]
    assert found[0] == [{"model": "m", "calls": 18, "cost": None, "tokens_in": 180, "tokens_out": 90}]
    assert found[2] == [{"name": "search", "calls": 18, "failed": 0.0}]
    assert [row["calls"] for row in found[3]] == [6, 6, 6]
    assert [row["n"] for row in found[9]] == [3, 3]


def test_answers_come_as_arrow_and_pandas(store: odograph.Store) -> None:
    """An answer is an Arrow table or a DataFrame where that is asked for; parameters are by position or by name. DuckDB's advice to
    who holds a connection is none for who asks a store."""
    fill(store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.sql("select id from trajectories").arrow().num_rows == 6
    assert list(store.sql("select agent from trajectories where agent=$a", {"a": "agent-1"}).pandas()["agent"]) == ["agent-1"] * 3


HOSTILE = [
    "copy (select 1) to '{out}'",
    "copy facts to '{out}'",
    "select 1; select 2",
    "select * from read_csv('{secret}')",
    "select * from read_text('{secret}')",
    "select * from read_blob('{secret}')",
    "from '{secret}'",
    "select * from glob('{folder}/*')",
    "select * from read_parquet('{folder}/x.parquet')",
    "select * from read_text('{journal}')",
    "attach '{out}'",
    "install httpfs",
    "load httpfs",
    "set enable_external_access=true",
    "set allowed_directories=['/']",
    "pragma enable_profiling",
    "create table x as select 1",
    "export database '{folder}'",
    "explain analyze select 1",
    "select * from sqlite_scan('{secret}', 'x')",
    "select * from 'https://example.com/x.parquet'",
    "select * from outside",
    "select * from query('copy (select 1) to ''{out}''')",
    "",
    "selec",
    "select error('it failed') from facts",
    "select cast(kind as int) from facts",
]


@pytest.mark.parametrize("sealed", [False, True])
def test_a_hostile_query_reaches_nothing(store: odograph.Store, tmp_path: Path, sealed: bool) -> None:
    """No query reads or writes a file outside of the sealed tables, loads code, or sees Python's variables: one sentence says so."""
    fill(store, 1)
    outside = [{"a": 1}]
    assert outside
    journal = next((store.root / "journal").glob("*.jsonl"))
    if sealed:
        store.seal()
        journal = store.root / "store.json"
        journal.write_text("{}")
    secret, out = tmp_path / "secret.csv", tmp_path / "out.csv"
    secret.write_text("name\nmypassword\n")
    before = sorted(tmp_path.rglob("*.parquet"))
    for one in HOSTILE:
        query = one.format(secret=secret, out=out, folder=tmp_path, journal=journal)
        for end in (" -- facts", ""):
            with pytest.raises(odograph.InvalidInput) as error:  # and nothing is said to be damaged
                store.sql(query + end).list()
            assert "mypassword" not in str(error.value) and "\n" not in str(error.value)
    assert not out.exists()
    assert sorted(tmp_path.rglob("*.parquet")) == before


#: Ends after some seconds. DuckDB compares many pairs in one piece of work.
LONG = "select count(*) from range(40000000) t, range(100) u, (select 1 from facts limit 1) where t.range + u.range = -1"


def test_a_query_that_takes_too_long_is_stopped(store: odograph.Store) -> None:
    """A timeout ends a query with a sentence, also while its rows are read, and the store answers the next one."""
    fill(store)
    with pytest.raises(odograph.StoreError, match=r"took more than 0.1 s and was stopped"):
        store.sql(LONG, timeout=0.1)
    with pytest.raises(odograph.StoreError, match=r"took more than 0.5 s and was stopped"):
        store.sql(f"select 1 as n from facts union all select * from ({LONG})", timeout=0.5).list()
    rows = store.sql("select 1 as n from facts limit 1", timeout=1000)
    assert rows.list() == [{"n": 1}]
    assert rows._left is not None and 0 < rows._left < 1000  # each wait counts
    for wrong in (0, -1, float("nan"), True, "1"):
        with pytest.raises(odograph.InvalidInput, match="timeout is a number of seconds above 0"):
            store.sql("select 1", timeout=wrong)  # type: ignore[arg-type]


def test_ctrl_c_stops_a_query(store: odograph.Store) -> None:
    """... at once, though the query is in the middle of a long piece of work."""
    fill(store)
    program = f"""
import os, signal, sys, threading, odograph
store = odograph.open(sys.argv[1])
store.sql("select * from facts").list()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    store.sql({LONG!r}).list()
except BaseException as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program, str(store.root)], capture_output=True, text=True, check=True)
    assert done.stdout == "KeyboardInterrupt\n", done.stderr


def test_a_forked_process_asks_and_ends(store: odograph.Store) -> None:
    """A child of a process that asked questions asks its own, with threads and databases of its own, and ends as it should."""
    fill(store)
    store.seal()
    program = """
import os, sys, odograph
store = odograph.open(sys.argv[1])
ask = lambda of: of.sql("select kind, count(*) as n from facts group by kind order by kind").list()
before = ask(store)
child = os.fork()
if child == 0:
    print(ask(store) == before == ask(odograph.open(sys.argv[1])), flush=True)
    sys.exit()
print(os.waitpid(child, 0)[1], ask(store) == before)
((folder,),) = store.sql("select current_setting('temp_directory')").tuples()
print(os.path.isdir(folder))  # the child's end took nothing of its parent's
"""
    done = subprocess.run([sys.executable, "-c", program, str(store.root)], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n0 True\nTrue\n", done.stderr


def test_a_process_that_is_forked_while_a_thread_asks(store: odograph.Store) -> None:
    """A child asks the store, whatever another thread asked at the moment of the fork."""
    fill(store)
    program = """
import os, signal, sys, threading, odograph
store = odograph.open(sys.argv[1])
over = threading.Event()
begun = threading.Event()
def ask():
    while not over.is_set():
        for t in store.trajectories():
            begun.set()
        store.record(task="more").finish()  # there is something to catch up with
thread = threading.Thread(target=ask)
thread.start()
begun.wait()
ended = []
for n in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # a child that waits for ever is ended, and is no success
        os._exit(not next(store.trajectories()).records)
    ended.append(os.waitpid(child, 0)[1])
    if ended[-1]:
        break
over.set()
thread.join()
print(ended)
"""
    command = [sys.executable, "-W", "ignore", "-c", program, str(store.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{[0] * 20}\n", done.stderr


def test_a_query_prints_nothing_itself(store: odograph.Store) -> None:
    """In programs without a file, as here, DuckDB would draw a bar among what they print."""
    fill(store)
    query = "select distinct current_setting('enable_progress_bar') as bar from facts"
    program = f"import sys, odograph; print(odograph.open(sys.argv[1]).sql({query!r}).list())"
    done = subprocess.run([sys.executable, "-c", program, str(store.root)], capture_output=True, text=True, check=True)
    assert done.stdout == "[{'bar': False}]\n"


def test_a_query_that_needs_too_much_memory_is_told(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, and no wrong use of the command."""
    fill(store)
    lock = databases.lock

    def small(database: Any, paths: list[str]) -> None:
        database.execute("set memory_limit='100MB'")
        lock(database, paths)

    monkeypatch.setattr(databases, "lock", small)
    with pytest.raises(odograph.StoreError, match=r"needs more memory than it may have: .*; ask for less at once"):
        store.sql("select list(repeat('x', 1000000)) from range(1000), (select 1 from facts limit 1)").list()


def test_what_memory_does_not_hold_is_the_users_alone(store: odograph.Store) -> None:
    """A query that is larger than memory writes rows to a folder that is there already and that nobody else can open."""
    fill(store, 1)
    for query in ("select current_setting('temp_directory')", "select distinct current_setting('temp_directory') from facts"):
        ((folder,),) = store.sql(query).tuples()
        assert Path(folder).stat().st_mode & 0o777 == 0o700


def test_what_a_killed_query_spilled_goes(store: odograph.Store, tmp_path: Path) -> None:
    """The folder in which a killed process had rows of a query is removed by the next process that asks; one in use stays."""
    fill(store, 1)
    code = """
        import os, signal, sys, odograph
        ((folder,),) = odograph.open(sys.argv[1]).sql("select current_setting('temp_directory')").tuples()
        open(folder + "/spilled", "w").close()
        print(folder, flush=True)
        if len(sys.argv) > 2:
            os.kill(os.getpid(), signal.SIGKILL)
        sys.stdin.read()
    """
    there = tmp_path / "temporary"
    there.mkdir()
    command = [sys.executable, "-c", textwrap.dedent(code), str(store.root)]
    how: dict[str, Any] = {"env": {**os.environ, "TMPDIR": str(there)}, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **how) as using:
        assert using.stdout is not None
        in_use = Path(using.stdout.readline().decode().strip())
        killed = Path(subprocess.run([*command, "killed"], **how).stdout.decode().strip())
        assert {in_use, killed} == set(there.iterdir())
        subprocess.run(command, **how | {"stdin": subprocess.DEVNULL}, check=True)
        assert list(there.iterdir()) == [in_use]
        using.communicate()
    assert list(there.iterdir()) == []


@pytest.mark.parametrize("sealed", [False, True])
def test_a_query_can_ask_which_tables_there_are(store: odograph.Store, sealed: bool) -> None:
    """SHOW TABLES, DESCRIBE and information_schema name the tables and columns that queries read, with their types."""
    fill(store, 1)
    if sealed:
        store.seal()
    assert [row["name"] for row in store.sql("show tables")] == ["facts", "messages", "records", "trajectories"]
    columns = "select table_name, column_name, data_type from information_schema.columns"
    found = [(row["table_name"], row["column_name"], row["data_type"]) for row in store.sql(columns)]
    for view in ("trajectories", "facts", "records", "messages"):
        described = [(view, row["column_name"], row["column_type"]) for row in store.sql(f"describe {view}")]
        assert described == [one for one in found if one[0] == view]
    assert store.sql("select count(*) as n from query('select * from fac' || 'ts')").list() == [{"n": 12}]


def test_the_command_prints_tables_json_and_csv(store: odograph.Store, capsys: pytest.CaptureFixture[str]) -> None:
    """`odograph sql` prints a table, an object a line, or CSV; a mistake is one sentence and exit status 2."""
    fill(store, 2)
    store.seal()
    ask = [
        "--store",
        str(store.root),
        "sql",
        "select agent, count(*) as n, list(kind) as k from facts where kind=$k group by 1 order by 1",
    ]
    assert main([*ask, "--param", "k=end", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"agent": f"agent-{i}", "n": 1, "k": ["end"]} for i in range(2)]
    assert main([*ask, "--param", "k=end", "--csv"]) == 0
    assert [row[:2] for row in csv.reader(io.StringIO(capsys.readouterr().out))] == [
        ["agent", "n"],
        ["agent-0", "1"],
        ["agent-1", "1"],
    ]
    assert main([*ask, "--param", "k=end"]) == 0
    assert "agent-1" in capsys.readouterr().out
    assert main(["--store", str(store.root), "sql", "select x from facts"]) == 2
    said = capsys.readouterr().err
    assert "x" in said and len(said.splitlines()) == 1


def test_what_the_command_prints_for_programs_is_exact(store: odograph.Store, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON holds each text as it is recorded, and CSV but for what a terminal would obey; values inside of lists and structs are what
    they are outside of them; a column whose name comes twice is there twice."""
    texts = ["\x1b[31mred", 'x,"y"\n', "\u202ertl"]
    for text in texts:
        store.record(task=text, agent="a").finish()
    ask = ["--store", str(store.root), "sql"]
    assert main([*ask, "select task from trajectories order by started", "--csv"]) == 0
    printed = capsys.readouterr().out
    shown = ["\\x1b[31mred", 'x,"y"\n', "\\u202ertl"]
    assert [row[0] for row in csv.reader(io.StringIO(printed, newline=""))] == ["task", *shown]
    assert main([*ask, "select task from trajectories order by started", "--json"]) == 0
    assert [json.loads(row)["task"] for row in capsys.readouterr().out.splitlines()] == texts
    day = "date '2020-01-02'"
    assert main([*ask, f"select {day} as d, [{day}] as l, {{'d': {day}}} as s, map{{{day}: 1.50}} as m", "--json"]) == 0
    want = {"d": "2020-01-02", "l": ["2020-01-02"], "s": {"d": "2020-01-02"}, "m": {"2020-01-02": "1.50"}}
    assert json.loads(capsys.readouterr().out) == want
    assert main([*ask, f"select [{day}] as l", "--csv"]) == 0
    assert capsys.readouterr().out == 'l\n"[""2020-01-02""]"\n'
    assert main([*ask, "select 'nan'::double as a, '-inf'::double as b, 2.0 as c"]) == 0
    assert capsys.readouterr().out.split()[:6] == ["a", "b", "c", "nan", "-inf", "2.0"]
    assert store.sql("select 1 as a, 2 as a, 3 as a_1, 4 as a").list() == [{"a": 1, "a_1": 2, "a_1_1": 3, "a_2": 4}]


@pytest.mark.parametrize(
    ("query", "given"), [(5, None), ("select ?", 5), ("select ?", "x"), (None, None), ("select \udce9", None)]
)
def test_a_query_that_is_none_is_told(store: odograph.Store, query: Any, given: Any) -> None:
    """A query that is no text, or no UTF-8, and parameters that are no list or dict, are refused in a sentence."""
    with pytest.raises(odograph.InvalidInput, match=r"a query is a text|parameters are a list|the query can't be read"):
        store.sql(query, given)


@pytest.mark.parametrize(
    ("query", "found"), [("select 1; select 2", "SELECT, SELECT"), ("delete from facts", "DELETE"), ("", "none"), ("--", "none")]
)
def test_what_is_not_one_select_is_named(store: odograph.Store, query: str, found: str) -> None:
    """The refusal says which statements there are."""
    with pytest.raises(odograph.InvalidInput, match=rf"a query is one SELECT; found {found}$"):
        store.sql(query)


def test_a_mistake_that_names_parquet_is_no_damage(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a query says wrong is told as that, though the error holds a word that errors of files hold; and no file is compared with
    its checksum, or read through, for it once more."""
    fill(store, 1)
    store.seal()
    store.sql("select count(*) from facts").list()
    monkeypatch.setattr(lake, "crc_of", lambda path: pytest.fail(f"{path} was read"))
    monkeypatch.setattr(lake.Lake, "batches", lambda self, path, *_, **__: pytest.fail(f"{path} was read"))
    mistakes = ["select parquet from facts", "select 'parquet'::int from facts", "select add_parquet_key('k', 'x') from facts"]
    for query in (*mistakes, "select * from 'none.parquet' -- facts"):
        with pytest.raises(odograph.InvalidInput, match="the query failed"):
            store.sql(query).list()


def test_rows_that_were_given_are_not_given_again(store: odograph.Store) -> None:
    """Files that rot while somebody takes rows of them end the rows with an error: the rows do not begin anew."""
    chance = random.Random(1)
    for _ in range(4):
        with store.record(task="t") as run:
            run.note(chance.randbytes(300_000).hex())  # DuckDB reads small files at once
        store.seal()
    rows = store.sql("select length(body) as n, repeat('x', 2000) as x, unnest(range(3000)) as y from records").tuples()
    next(rows)
    for path in (store.root / "lake" / "records").glob("*.parquet"):
        data, about = path.read_bytes(), path.stat()
        with path.open("r+b") as file:
            file.write(b"\xa5" * (len(data) - 8 - int.from_bytes(data[-8:-4], "little")))
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(odograph.StoreError, match="the sealed tier can't be read"):
        for _ in rows:
            pass


def test_a_frame_is_of_both_tiers(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`store.frame` gives the rows of a table, sealed or not, or sealed meanwhile, as a Daft DataFrame."""
    pytest.importorskip("daft")
    fill(store, 2)
    assert store.frame("facts").count_rows() == 24
    store.seal()
    fill(store, 1)
    assert [store.frame(name).count_rows() for name in ("trajectories", "facts")] == [3, 36]
    with pytest.raises(odograph.InvalidInput, match="trajectories, facts, records"):
        store.frame("fact")
    store.close()
    hostile = store.root.rename(store.root.with_name("it's [a] {b,c} *? \\ 100%"))
    with odograph.open(hostile) as moved:
        assert [moved.frame(name).count_rows() for name in ("trajectories", "facts")] == [3, 36]
        assert moved.sql("select count(*) as n from facts").list() == [{"n": 36}]
        read = asking.read_ranges

        def sealed(*of: Any) -> Any:  # by another process, which deletes what is about to be read
            monkeypatch.undo()
            with odograph.open(hostile) as other:
                other.seal()
            return read(*of)

        monkeypatch.setattr(asking, "read_ranges", sealed)
        assert moved.frame("facts").count_rows() == 36


def test_strangers_find_their_way(store: odograph.Store) -> None:
    """Plain DuckDB and pyarrow read the files; each column says what it holds; a README lies beside them."""
    import pyarrow.parquet as parquet

    fill(store)
    store.seal()
    lake = store.root / "lake"
    assert duckdb.sql(f"select count(*) from '{lake}/facts/*.parquet'").fetchall() == [(72,)]
    schema = parquet.read_schema(next((lake / "trajectories").glob("*.parquet")))
    assert all(field.metadata[b"doc"] for field in schema)
    assert "`completion_tokens`" in (lake / "README.md").read_text()


def test_the_page_lists_all_columns() -> None:
    """docs/lake.md has every column of every table as the tables have it."""
    assert layout.columns_as_text() in (DOCS / "lake.md").read_text()


def test_the_tables_follow_the_records_and_the_catalog() -> None:
    """A new plain field of all records, or a new column of the catalog, needs a column of the sealed tier."""
    import sqlite3

    assert set(BASE) <= set(layout.RECORDS.names)
    assert set(BASE) | {"extra"} == set(Record.__struct_fields__)
    db = sqlite3.connect(":memory:")
    create(db)
    there = {row[1] for row in db.execute("pragma table_info(trajectories)")}
    assert there - {"sealed", "alone", "began", "first_apart", *(f"{name}_number" for name in SHARED)} == set(layout.SUMMARY)


def test_a_database_is_kept_while_the_same_files_count(store: odograph.Store) -> None:
    """Questions over sealed files alone share a database; what is recorded or sealed later is seen by the next question."""
    question = "select count(*) as n, count(distinct trajectory) as t from facts"
    fill(store, 2)
    store.seal()
    before = store.sql(question).list()
    kept = store.backend.reader.databases.kept.copy()
    half = store.sql("select id from trajectories order by id")
    assert store.sql(question).list() == before
    assert kept.items() <= store.backend.reader.databases.kept.items()
    assert len(half.list()) == 2  # it was not read before the next question came
    with store.record(task="more") as run:
        run.reward(1.0)
        assert store.sql("select status from trajectories where id=?", [run.id]).list() == [{"status": "running"}]
    assert store.sql(question).list()[0]["t"] == before[0]["t"] + 1
    store.seal()
    assert store.sql(question).list()[0]["t"] == before[0]["t"] + 1
    with pytest.raises(odograph.InvalidInput):
        store.sql("select * from read_csv('/etc/passwd')").list()
    store.compact(grace=0)
    assert store.sql(question).list()[0]["t"] == before[0]["t"] + 1
    databases = store.backend.reader.databases
    assert databases.kept
    store.close()
    assert not databases.kept  # nor their memory


@pytest.mark.parametrize("sealed", [False, True])
def test_what_is_set_for_a_database_holds_for_its_queries(store: odograph.Store, sealed: bool) -> None:
    """A database that is kept sees no variable of Python and remembers the footers of its files, as one that is not kept."""
    fill(store, 1)
    if sealed:
        store.seal()
    wanted = {"enable_external_access": "false", "parquet_metadata_cache": "true", "python_enable_replacements": "false"}
    for _ in range(2):
        found = store.sql("select name, value from duckdb_settings() -- facts").list()
        assert wanted.items() <= {row["name"]: row["value"] for row in found}.items()
    assert bool(store.backend.reader.databases.kept) == sealed


def test_files_of_an_earlier_version_are_joined(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that some files lack, or all, is null there, whichever file comes first; the same database answers again."""
    question = "select count(*) as n, count(author) as a from facts where kind='reward'"

    class Earlier(committing.Writer):
        def __init__(self, root: Path, path: str, table: Any, *rest: Any, **how: Any) -> None:
            super().__init__(root, path, table.only([n for n in table.names if n != "author"]), *rest, **how)

        def write(self, rows: Any) -> None:
            super().write(rows.drop_columns(["author"]) if "author" in getattr(rows, "column_names", ()) else rows)

    for sealed, writer in enumerate((Earlier, committing.Writer, Earlier, committing.Writer)):
        with store.record(task="t") as run:
            run.reward(1.0, author="me")
        assert store.sql(question).list() == [{"n": sealed + 1, "a": sealed // 2 + 1}]
        with monkeypatch.context() as then:
            then.setattr(committing, "Writer", writer)
            store.seal()
        if writer is Earlier:
            assert store.sql(question).list()[0]["n"] == store.sql("select count(*) as n from trajectories").list()[0]["n"]
    for _ in range(2):
        assert store.sql(question).list() == [{"n": 4, "a": 2}]
    store.compact(grace=0)
    assert store.sql(question).list() == [{"n": 4, "a": 2}]


def test_facts_of_a_kind_stand_together(store: odograph.Store) -> None:
    """In each row group of `facts` the rows stand by kind, also once files are merged: nulls that stand together are read faster."""
    lake = store.backend.reader.lake
    for _ in range(2):
        for path in lake.files("facts"):
            with lake.open(path, layout.FACTS) as file:
                for group in range(file.groups):
                    kinds = file.read(["kind"], [group]).column("kind").to_pylist()
                    assert len({*kinds}) > 2 and kinds == sorted(kinds)
        fill(store, 2)
        store.seal()
        store.compact(grace=0)


def test_many_seals_make_few_row_groups(store: odograph.Store) -> None:
    """A scan of `facts` pays for row groups of a few rows; a compaction leaves none."""
    import pyarrow.parquet as parquet

    for _ in range(5):
        fill(store, 2)
        store.seal()
    rows = store.sql("select * from facts order by trajectory, time, kind").list()
    store.compact(grace=0)
    (path,) = (store.root / "lake" / "facts").glob("*.parquet")
    about = parquet.read_metadata(path)
    assert (about.num_row_groups, about.num_rows) == (1, len(rows))
    assert store.sql("select * from facts order by trajectory, time, kind").list() == rows


def test_an_action_with_an_error_failed(tmp_path: Path) -> None:
    """A source that says of an action only what went wrong says that it failed; one that says nothing does not say how it went."""
    actions = [{"name": "a", "error": "no"}, {"name": "b"}, {"name": "c", "ok": True, "error": "odd"}]
    with odograph.open(tmp_path / "s") as store:
        store.add({"task": "t", "steps": [{"actions": actions}]})
        asked = "select name, ok from facts where kind = 'action' order by name"
        expected = [{"name": "a", "ok": False}, {"name": "b", "ok": None}, {"name": "c", "ok": True}]
        assert store.sql(asked).list() == expected
        store.seal()
        assert store.sql(asked).list() == expected


def test_facts_say_what_was_corrected_in_both_tiers(store: odograph.Store) -> None:
    """Of a record that another one corrects, and of no other."""
    (id,) = fill(store, 1, steps=1)
    given = store.trajectory(id).to_dict()
    store.add({**given, "end": {**given["end"], "status": "failed"}})
    for _ in range(2):
        found = store.sql("select kind, name, replaced from facts where kind = 'end' or replaced order by name").list()
        assert [tuple(row.values()) for row in found] == [("end", "completed", True), ("end", "failed", False)]
        store.seal()
