"""The page on extending is true: what it shows, put into a file by a stranger, works from that file, and from a package."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import InvalidInput, importers, plugins, quality
from odograph.cli import main

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text()


def example(heading: str, number: int = 0) -> str:
    """The n-th Python example below a heading of the page."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.S)[number]


def run(*args: str, cwd: Path, check: int = 0, **env: str) -> str:
    """The program in a folder; in a process of its own where packages are installed for it."""
    if env:
        command = [sys.executable, "-m", "odograph", "--store", "s", *args]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **env})
        status, out, err = done.returncode, done.stdout, done.stderr
    else:
        stdout, stderr = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
        with contextlib.chdir(cwd), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            status = main(["--store", "s", *args])
        stdout.seek(0)
        out, err = stdout.read(), stderr.getvalue()
    assert status == check, err
    assert "Traceback" not in err
    return out or err


def package(folder: Path, group: str, name: str, code: str) -> None:
    """An installed package that offers one thing by an entry point; `folder` stands on the path."""
    (folder / f"{name}_package.py").write_text(code)
    about = folder / f"{name}_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}_package\n")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder with a store `s` of two trajectories: one rewarded, one with a slow tool."""
    with odograph.open(tmp_path / "s") as store:
        with store.record(task="quick", agent="x") as run_:
            with run_.step() as step:
                step.llm_call(
                    model="m",
                    messages=[{"role": "user", "content": "q"}],
                    response="a",
                    prompt_token_ids=[1],
                    token_ids=[2, 3],
                    logprobs=[-0.1, -0.2],
                )
                step.action("go", {}, "ok", ok=True)
            run_.reward(1.0)
            run_.finish("4")
        slow = next(iter(store.trajectories())).to_dict()
        text = json.dumps(slow).replace(slow["id"], "slow")
        slow = json.loads(text)
        slow["steps"][0]["actions"][0]["duration"] = 90_000_000_000
        slow["rewards"] = []
        store.add(slow)
    return tmp_path


def test_an_importer_is_one_file(tmp_path: Path) -> None:
    """An importer in a file is asked among all others whether a file is of its format; damage in it is told."""
    (tmp_path / "heron.py").write_text(example("An importer"))
    sessions = tmp_path / "sessions"
    sessions.mkdir()
    (sessions / "one.jsonl").write_text(
        '{"heron": "What is 2+2?", "reply": "4"}\n{"heron": "And 3+3?", "reply": "6"}\n{"heron": "to'
    )
    (sessions / "chat.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
    )
    assert "1 openai-chat" in (out := run("import", "sessions", "--importer", "heron.py", cwd=tmp_path)) and "1 heron" in out
    report = json.loads(run("import", "sessions", "--importer", "heron.py", "--json", cwd=tmp_path))
    assert (report["imported"], report["skipped"], report["failed"]) == (0, 2, [])
    (damaged,) = report["warnings"]
    assert [w for w in damaged if w.startswith("torn line at byte")]
    (row,) = [r for line in run("ls", "--json", cwd=tmp_path).splitlines() if (r := json.loads(line))["steps"] == 2]
    assert row["llm_calls"] == 2
    with odograph.open(tmp_path / "other") as store:
        found = store.import_sessions(sessions / "one.jsonl", importers=[str(tmp_path / "heron.py")])
        assert [t["format"] for t in found.trajectories] == ["heron"]
        assert store.import_sessions(sessions / "one.jsonl").failed[0]["error"].startswith("no session of a known format")


def test_an_importer_of_folders_is_one_file(tmp_path: Path) -> None:
    """A session may be a folder: a named importer gets the folder itself, by `--format` and by `--importer`."""
    code = example("An importer").replace("head.startswith(b'{\"heron\":')", "(path / 'turns.jsonl').is_file()")
    (tmp_path / "heron.py").write_text(code.replace("Lines(path)", "Lines(path / 'turns.jsonl')"))
    (tmp_path / "in/one").mkdir(parents=True)
    (tmp_path / "in/one/turns.jsonl").write_text('{"heron": "What is 2+2?", "reply": "4"}\n')
    assert "1 imported, 0 there already, 0 files failed" in run("import", "in", "--format", "heron.py", cwd=tmp_path)
    assert "0 imported, 1 there already, 0 files failed" in run("import", "in", "--importer", "heron.py", cwd=tmp_path)


#: What an importer may have by mistake: a change of the page's example, the exit status, and what the sentence says.
NO_IMPORTER = [
    ('NAME = "heron"', "NAME = 5", 2, "'heron.py' is no importer: NAME is a text, not 5"),
    (
        "def recognise",
        'SURE = "very"\n\n\ndef recognise',
        2,
        "'heron.py' is no importer: SURE is a number from 0 to 100, not 'very'",
    ),
    ("    yield session", "    yield 5", 1, "the importer 'heron' gave an object of type int; sessions were expected"),
    ("    yield session", "    return None", 1, "the importer 'heron' gave an object of type NoneType; sessions were expected"),
    (
        "session.add(End())",
        'session.add({"kind": "end"})',
        1,
        "a session takes records of odograph.types, not an object of type dict",
    ),
]


@pytest.mark.parametrize(("part", "wrong", "status", "says"), NO_IMPORTER)
def test_a_mistake_in_an_importer_is_told_in_one_sentence(tmp_path: Path, part: str, wrong: str, status: int, says: str) -> None:
    """A member of the wrong kind is told before any file is read; what is no session, or no record, costs its file."""
    (tmp_path / "heron.py").write_text(example("An importer").replace(part, wrong))
    (tmp_path / "one.jsonl").write_text('{"heron": "What is 2+2?", "reply": "4"}\n')
    assert says in run("import", "one.jsonl", "--importer", "heron.py", "--json", cwd=tmp_path, check=status)


def test_an_importer_of_a_package_is_asked_by_itself(tmp_path: Path) -> None:
    """What an installed package offers needs no flag; a name of its own takes it, too."""
    package(tmp_path, "odograph.importers", "heron", example("An importer"))
    (tmp_path / "one.jsonl").write_text('{"heron": "What is 2+2?", "reply": "4"}\n')
    assert "1 heron" in run("import", "one.jsonl", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert "1 there already" in run("import", "one.jsonl", "--format", "heron", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    (tmp_path / "heron_package.py").write_text("1/0")
    said = run("import", "one.jsonl", cwd=tmp_path, check=2, PYTHONPATH=str(tmp_path))
    assert "heron_package by an entry point, can't be loaded: ZeroDivisionError" in said


def test_importers_say_how_sure_they_are(tmp_path: Path) -> None:
    """Of two that know a file the surer is asked first, and one that the user names before both."""
    names = list(importers.NAMES)
    assert names[-1] == "openai-chat"
    sure = [getattr(importers.find(name), "SURE", 50) for name in names]
    assert sure == sorted(sure, reverse=True)
    path = tmp_path / "chat.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "q"}]}\n')
    found = importers.recognise(path)
    assert found is not None and found.NAME == "openai-chat"
    (tmp_path / "all.py").write_text(example("An importer").replace("head.startswith(b'{\"heron\":')", "True"))
    mine = importers.find(str(tmp_path / "all.py"))
    first = importers.recognise(path, [mine])
    assert first is not None and first.NAME == "heron"


def test_an_importer_that_lacks_a_part_or_fails_is_named(tmp_path: Path) -> None:
    """A file that is no importer, and one that fails to look at a file, end in a sentence that says which."""
    (tmp_path / "half.py").write_text("NAME = 'half'\n")
    (tmp_path / "x.jsonl").write_text("{}\n")
    said = run("import", "x.jsonl", "--importer", "half.py", cwd=tmp_path, check=2)
    assert "'half.py' is no importer: it has no recognise, read" in said
    (tmp_path / "bad.py").write_text(example("An importer").replace("return head.startswith(b'{\"heron\":')", "return 1 / 0"))
    report = json.loads(run("import", "x.jsonl", "--importer", "bad.py", "--json", cwd=tmp_path, check=1))
    assert report["failed"][0]["error"].startswith("the importer 'heron' can't look at 'x.jsonl': ZeroDivisionError")
    (tmp_path / "y.jsonl").write_text('{"heron": "What is 2+2?", "reply": "4"}\n')
    (tmp_path / "ends.py").write_text(example("An importer").replace("    yield session", "    raise SystemExit(4)\n    yield"))
    report = odograph.open(tmp_path / "s").import_sessions(tmp_path / "y.jsonl", importers=[str(tmp_path / "ends.py")])
    assert report.failed[0]["error"] == "the SystemExit 4 while reading it"


def test_an_exporter_is_one_file(recorded: Path) -> None:
    """Exporters of trajectories and of samples come from a file; what they leave out is counted with its reason."""
    (recorded / "tasks.py").write_text(example("An exporter"))
    manifest = json.loads(run("export", "--to", "tasks.py", "-o", "out", "--option", "short=true", "--json", cwd=recorded))
    assert (manifest["rows"], manifest["left_out"]) == (1, {"no reward": 1})
    (file,) = manifest["files"]
    assert json.loads((recorded / "out" / file["path"]).read_text()) == {"task": "quick", "reward": 1.0}
    with odograph.open(recorded / "s") as store:
        found = odograph.rows(store.trajectories(), str(recorded / "tasks.py"), options={"short": True})
        assert (found, found.left_out) == ([{"task": "quick", "reward": 1.0}], {"no reward": 1})
    (recorded / "mini.py").write_text(example("An exporter", 1))
    manifest = json.loads(run("export", "--to", "mini.py", "-o", "out2", "--json", cwd=recorded))
    rows = [
        json.loads(line) for file in manifest["files"] for line in (recorded / "out2" / file["path"]).read_text().splitlines()
    ]
    assert {"ids": [1, 2, 3], "mask": [0, 1, 1], "reward": 1.0} in rows
    package(recorded, "odograph.exporters", "tasks", example("An exporter"))
    assert json.loads(run("export", "--to", "tasks", "-o", "out3", "--json", cwd=recorded, PYTHONPATH=str(recorded)))["rows"] == 1


def test_an_exporter_with_a_member_of_the_wrong_kind_is_refused(recorded: Path) -> None:
    """A mistake in a member is a sentence that names the member; one that ends the program while it makes rows costs a trajectory."""
    samples = example("An exporter", 1)
    with odograph.open(recorded / "s") as store:
        for text, says in (
            (
                samples.replace('{"edits": "env"}', '{"edit": "env"}'),
                r"PLAN names 'edit', which is no option of samples; .* 'edits'\?",
            ),
            (samples.replace('{"edits": "env"}', "3"), "PLAN is a dict, not 3"),
            (samples + "\nNEEDS = {1: 2}\n", "NEEDS names 1, which is no option of samples"),
            (samples + "\ncard = 3\n", "card is a function, not 3"),
            (samples + "\nrow = None\n", "row is a function, not None"),
        ):
            (recorded / "bad.py").write_text(text)
            with pytest.raises(odograph.InvalidInput, match=says):
                store.export(recorded / "out4", to=str(recorded / "bad.py"))
        (recorded / "ends.py").write_text(example("An exporter").replace("    yield", "    raise SystemExit(4)\n    yield"))
        manifest = store.export(recorded / "out5", to=str(recorded / "ends.py"))
        assert manifest["left_out"] == {"no reward": 1, "an error: SystemExit: 4": 1}


#: What an exporter may put into a row by mistake, as its source; and what the sentence says of it.
NO_JSON = [
    ("{1, 2}", "a.b[1] is of type set"),
    ("object()", "a.b[1] is of type object"),
    ("b'x'", "a.b[1] is of type bytes"),
    ("float('nan')", "a.b[1] is nan"),
    ("10**3000", "a.b[1] is a number of 9,966 bits"),
    ("{1: 2}", "a.b[1] has a key of type int"),
    ("'\\ud800'", "a.b[1] has half a surrogate pair"),
    ("[{'when': __import__('datetime').date(2026, 1, 2)}]", "a.b[1][0].when is of type datetime.date"),
]


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_a_row_that_is_no_json_is_told_of_by_its_place(recorded: Path, kind: str) -> None:
    """A strange object in a row leaves its trajectory out, with one sentence that names exporter, place and type; what stands for
    plain values is written as these."""
    text = f'import os\nNAME = "odd"\nFILES = ("{kind}",)\n\n\ndef rows(trajectory, left_out):\n    yield {{"a": {{"b": [1, eval(os.environ["ODD"])]}}}}\n'
    (recorded / "odd.py").write_text(text)
    with odograph.open(recorded / "s") as store, pytest.MonkeyPatch.context() as patch:
        for value, says in NO_JSON:
            patch.setenv("ODD", value)
            manifest = store.export(recorded / "odd", to=str(recorded / "odd.py"))
            (reason,) = manifest["left_out"]
            assert manifest["rows"] == 0 and f"odd.py' gave a row that is no JSON: {says};" in reason, (value, reason)
            with pytest.raises(odograph.InvalidInput, match="gave a row that is no JSON"):
                odograph.rows(store.trajectories(), str(recorded / "odd.py"))
        patch.setenv("ODD", "__import__('collections').OrderedDict(x=(1, 10**30, None))")
        manifest = store.export(recorded / "odd", to=str(recorded / "odd.py"))
        written = (recorded / "odd" / manifest["files"][0]["path"]).read_bytes().splitlines()
        assert written[0] == b'{"a":{"b":[1,{"x":[1,1000000000000000000000000000000,null]}]}}'


def test_a_line_of_bytes_is_json_and_a_line(recorded: Path) -> None:
    """An exporter that gives lines as bytes may leave out their end; bytes that are no JSON leave the trajectory out."""
    for given, rows in (("b'{\"a\": 1}'", 2), ("b'{'", 0), ("b''", 0)):
        (recorded / "raw.py").write_text(
            f'NAME = "raw"\nFILES = ("jsonl",)\n\n\ndef rows(trajectory, left_out):\n    yield {given}\n'
        )
        with odograph.open(recorded / "s") as store:
            manifest = store.export(recorded / "raw", to=str(recorded / "raw.py"))
        assert manifest["rows"] == rows and (rows or "gave a line that is no JSON" in next(iter(manifest["left_out"])))
        if rows:
            assert (recorded / "raw" / manifest["files"][0]["path"]).read_bytes() == b'{"a": 1}\n' * 2


def test_a_row_that_is_not_of_its_schema_is_told_of_by_its_column(recorded: Path) -> None:
    """A value of another type than a Parquet file's column leaves the trajectory out, with a sentence that names the column."""
    pytest.importorskip("pyarrow")
    text = """
import pyarrow as pa

NAME, FILES = "table", ("parquet",)


def schema():
    return pa.schema([("n", pa.int64())])


def rows(trajectory, left_out):
    yield {"n": {1}}
"""
    (recorded / "table.py").write_text(text)
    with odograph.open(recorded / "s") as store:
        manifest = store.export(recorded / "table", to=str(recorded / "table.py"))
    (reason,) = manifest["left_out"]
    assert "table.py' gave a row that its schema can't hold: n is of type set, and int64 was expected" in reason


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("1 / 0", "can't be made: ZeroDivisionError"),
        ("None", "of type NoneType; a pyarrow.Schema"),
        ("{'t': 'n'}", "of type str; a pyarrow"),
    ],
)
def test_a_schema_that_is_none_is_told_in_one_sentence(recorded: Path, given: str, says: str) -> None:
    """An exporter whose schema fails, or is anything else, is refused before anything is written."""
    pytest.importorskip("pyarrow")
    text = f'NAME, FILES = "table", ("parquet",)\n\n\ndef schema():\n    return {given}\n\n\ndef rows(t, left_out):\n    yield {{}}\n'
    (recorded / "table.py").write_text(text)
    said = run("export", "--to", "table.py", "-o", "out", cwd=recorded, check=2)
    assert said.startswith("odograph: the ") and says in said and said.count("\n") == 1 and not (recorded / "out").exists()


@pytest.mark.parametrize(("odd", "says"), [("{1}", "of type set"), ("float('nan')", "nan"), ("float('-inf')", "-inf")])
def test_what_is_no_json_in_a_request_is_told_of_and_not_sent(tmp_path: Path, odd: str, says: str) -> None:
    """A model would read the repr of an object, or a null in place of NaN, as content: a dialect that puts one into a request
    fails the run before anything is sent, and an agent's own params are refused."""
    (tmp_path / "odd.py").write_text(
        example("A dialect").replace('"options": params, **beside}', f'"options": {{"stop": [{odd}]}}}}')
    )
    with odograph.open(tmp_path / "s") as store:
        agent = odograph.Agent(model="m", dialect=str(tmp_path / "odd.py"), base_url="http://127.0.0.1:9")
        (response,) = asyncio.run(odograph.Runners.run_task([odograph.Task(input="x", agent=agent)], store=store)).values()
        assert response.status == "failed" and f"no JSON: options.stop[0] is {says}" in str(response.msg)
        assert store.trajectory(response.trajectory_id).llm_calls == []
    for value, says in ((object(), "x is of type object"), (float("nan"), "x is nan"), ({1: 2}, "x has a key of type int")):
        with pytest.raises(odograph.InvalidInput, match=f"params go into requests, as JSON: {says}"):
            odograph.Agent(model="m", params={"x": value})


#: What a dialect may have by mistake, and what the sentence says.
NO_DIALECT = [
    ('PATHS = ("/api/chat",)', 'PATHS = "/api/chat"', "PATHS is a tuple of texts, not '/api/chat'"),
    ('PATHS = ("/api/chat",)', "PATHS = ()", "PATHS is a tuple of texts, not ()"),
    ('LISTS = ("messages",)', 'LISTS = "messages"', "LISTS is a tuple of texts, not 'messages'"),
    ('NAME = "ollama.chat"', "NAME = 5", "NAME is a text, not 5"),
]


@pytest.mark.parametrize(("part", "wrong", "says"), NO_DIALECT)
def test_a_mistake_in_a_dialect_is_told_in_one_sentence(tmp_path: Path, part: str, wrong: str, says: str) -> None:
    """A member of the wrong kind is refused when the dialect is named: a text as `PATHS` would claim nearly every URL."""
    (tmp_path / "odd.py").write_text(example("A dialect").replace(part, wrong))
    with pytest.raises(InvalidInput, match=re.escape(f"{tmp_path / 'odd.py'}' is no dialect: {says}")):
        odograph.Agent(model="m", dialect=str(tmp_path / "odd.py"))


_KEPT = """
import json, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx

import odograph


class Model(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson")
        self.end_headers()
        self.wfile.write(b'{"message": {"content": "he"}, "done": false}\\n{"message": {"content": "y"}, "done": true}\\n')


server = HTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
client = httpx.Client(timeout=None)  # the machine may be slow
odograph.wrap(client, dialect=sys.argv[1])
with odograph.open("s") as store:
    with store.record(task="t") as run, run.step():
        client.post(f"http://127.0.0.1:{server.server_port}/api/chat", json={"messages": [{"role": "user", "content": "hi"}]})
    call = store.trajectory(run.id).llm_calls[0]
    record = call.record
    print(json.dumps([record.request["messages"], record.events and len(record.events["rows"]), record.error, store.health()["faults"]]))
"""


@pytest.mark.parametrize(("member", "error"), [("usage", False), ("stated", False), ("ending", True), ("assemble", True)])
def test_a_dialect_that_fails_costs_no_call(tmp_path: Path, member: str, error: bool) -> None:
    """A function of a stranger's dialect raises: the request and the events of the answer are recorded all the same, and the failure
    is counted."""
    pytest.importorskip("httpx")
    code = re.sub(rf"def {member}\((.*)\):", rf"def {member}(\1):\n    1 / 0", example("A dialect"))
    (tmp_path / "odd.py").write_text(code)
    env = {name: value for name, value in os.environ.items() if name != "ODOGRAPH_STRICT"}  # where a fault raises
    command = [sys.executable, "-W", "ignore", "-c", _KEPT, "odd.py"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    asked, events, said, faults = json.loads(done.stdout)
    assert asked == [{"role": "user", "content": "hi"}] and events == 2 and faults >= 1
    assert f"failed in {member}()" in str(said) if error else said is None


def test_a_reward_function_is_one_file(recorded: Path) -> None:
    """A reward function in a file scores a store."""
    (recorded / "rewards.py").write_text(example("A reward function"))
    assert json.loads(run("score", "rewards.py:short", "--json", cwd=recorded))["scored"] == 2


def test_an_agent_is_one_file(tmp_path: Path) -> None:
    """`odograph fork --agent` continues a run with the agent of a file; its class in place of the object is one sentence, and no run."""
    (tmp_path / "agents.py").write_text(example("An agent"))
    agent = odograph.plugins.load(f"{tmp_path}/agents.py:guesser")
    with odograph.open(tmp_path / "s") as store:
        asyncio.run(odograph.Runners.run_task([odograph.Task(input="guess", agent=agent)], store=store))
        (first,) = store.trajectories()
    assert (
        json.loads(run("fork", first.id, "--at-step", "2", "--agent", "agents.py:guesser", "--json", cwd=tmp_path))["answer"]
        == 42
    )
    said = run("fork", first.id, "--agent", "agents.py:Guesser", cwd=tmp_path, check=2)
    assert "has the class Guesser; an agent is an object, such as Guesser()" in said
    assert len(run("ls", "--json", cwd=tmp_path).splitlines()) == 2


def test_an_agent_with_a_member_of_the_wrong_kind_is_told(tmp_path: Path) -> None:
    """A name that is no text is refused before the run; a step that returns no Outcome is the agent's own failure."""
    store = odograph.open(tmp_path / "s")
    space: dict[str, Any] = {}
    exec(example("An agent"), space)
    guesser = space["Guesser"]

    class Numbered(guesser):  # type: ignore[misc]
        name = 3

    class Silent(guesser):  # type: ignore[misc]
        async def step(self, state: Any, step: Any) -> None:
            pass

    with pytest.raises(odograph.InvalidInput, match="an agent whose name is 3; a text was expected"):
        asyncio.run(odograph.Runners.run_task([odograph.Task(input="x", agent=Numbered())], store=store))
    found = asyncio.run(odograph.Runners.run_task([odograph.Task(input="x", agent=Silent())], store=store))
    (response,) = found.values()
    assert response.status == "failed" and "step() returns an Outcome, not NoneType" in str(response.msg)


def test_a_processor_is_one_file(tmp_path: Path) -> None:
    """The processor of a file changes its component in each step of a world; one that stands in no list is refused."""
    pytest.importorskip("daft")
    (tmp_path / "cheer.py").write_text(example("A processor"))
    cheer, mood = (odograph.plugins.load(f"{tmp_path}/cheer.py:{name}") for name in ("Cheer", "Mood"))
    with odograph.open(tmp_path / "s") as store:
        world = store.world("name", processors=[cheer()])
        world.spawn(mood())
        world.run(2)
        assert [row["mood__score"] for row in world.query(mood).to_pylist()] == [0.5]
        with pytest.raises(TypeError, match="processors is a list of processors, not Cheer"):
            store.world("other", processors=cheer())


def test_a_check_is_one_file(recorded: Path) -> None:
    """A check in a file, named by a flag or a setting, runs with the others; without it nothing is otherwise."""
    (recorded / "tools.py").write_text(example("A check"))

    def codes(*args: str, **env: str) -> dict[str, Any]:
        return dict(json.loads(run("validate", "--json", *args, cwd=recorded, check=0, **env))["counts"])

    before = codes()
    assert codes("--check", "tools.py") == {**before, "slow_tool": 1}
    assert codes("--check", "tools.py:slow_tool", "--check", "tools.py", "--workers", "2") == {**before, "slow_tool": 1}
    assert "slow_tool" not in codes("--check", "tools.py", "--ignore", "slow_tool")
    assert "slow_tool" not in codes("--check", "tools.py", "--profile", "sft")
    assert f"{len(quality.CHECKS) + 1} checks known" in run("validate", "--check", "tools.py", cwd=recorded)
    assert codes() == before
    (recorded / "pyproject.toml").write_text('[tool.odograph.validate]\nchecks = ["tools.py"]\n')
    assert codes()["slow_tool"] == 1
    below = recorded / "below"
    below.mkdir()
    done = run("--store", "../s", "validate", "--json", cwd=below)
    assert json.loads(done)["counts"]["slow_tool"] == 1  # the file is the settings', wherever the command runs
    (recorded / "pyproject.toml").unlink()
    package(recorded, "odograph.checks", "tools", example("A check"))
    assert codes(PYTHONPATH=str(recorded))["slow_tool"] == 1
    with odograph.open(recorded / "s") as store:
        (found,) = [f for f in store.validate(checks=[str(recorded / "tools.py")]).findings if f.code == "slow_tool"]
        assert (found.severity, found.path, found.trajectory) == ("warning", "steps[0].actions[0].duration", "slow")
        assert odograph.validate(store.trajectory("slow"), checks=str(recorded / "tools.py")).counts["slow_tool"] == 1


def test_a_check_that_fails_costs_itself_alone(recorded: Path) -> None:
    """A stranger's check that raises, or yields what it should not, is an error of its own code; all others go on."""
    with odograph.open(recorded / "s") as store:
        before = store.validate().counts
        for body, says in (
            ("yield 'path', look.t.nothing", "the check failed: AttributeError"),
            ("yield 'path'", "the check yields (path, message)"),
            ("yield 'path', 'message', 'fatal'", "the check yields (path, message)"),
            ("return 5", "the check failed: TypeError"),
            ("raise SystemExit(3)\n    yield", "the check failed: SystemExit"),
        ):
            (recorded / "bad.py").write_text(
                f"from odograph.quality import check\n@check('mine', 'warning', 'x')\ndef mine(look):\n    {body}\n"
            )
            report = store.validate(checks=[str(recorded / "bad.py")])
            assert report.counts == {**before, "mine": 2}
            assert {(f.severity, f.message.startswith(says)) for f in report.findings if f.code == "mine"} == {("error", True)}


def test_checks_that_cannot_be_had_are_refused(recorded: Path) -> None:
    """A file without checks, one that is not there, and one that takes the code of another check: a sentence each."""
    (recorded / "none.py").write_text("x = 5\n")
    (recorded / "odd.py").write_text(example("A check").replace('"slow_tool"', "3"))
    (recorded / "taken.py").write_text(example("A check").replace('"slow_tool"', '"secret"'))
    for name, status, says in (
        ("none.py", 2, "no check in 'none.py'; a function with @odograph.quality.check(...) was expected"),
        ("taken.py", 2, "the check 'secret' of 'taken.py' has the code of another check"),
        ("odd.py", 2, "the code of a check is a name, not 3"),
        ("gone.py", 1, "no file 'gone.py'"),
        ("gone", 2, "no check named 'gone'; there are: "),
        ("", 2, "argument --check: a value was expected, not an empty text"),
    ):
        assert says in run("validate", "--check", name, cwd=recorded, check=status)
    (recorded / "pyproject.toml").write_text("[tool.odograph.validate]\nchecks = [5]\n")
    assert "checks in [tool.odograph.validate] is a list of texts" in run("validate", cwd=recorded, check=2)


def test_what_lies_in_a_folder_of_built_ins_is_built_in(tmp_path: Path) -> None:
    """A dialect and an exporter become built-in by a file of their own: no list names them."""
    (tmp_path / "mini.py").write_text(example("An exporter", 1))
    (tmp_path / "ollama_chat.py").write_text(example("A dialect"))
    code = "from odograph import dialects; from odograph.training import formats\n"
    code += f"for one in (dialects, formats): one.__path__.append({str(tmp_path)!r})\n"
    code += "print('mini' in formats.NAMES, 'ollama.chat' in dialects.NAMES, formats.find('mini').plan,"
    code += " dialects.of_path('/api/chat').NAME, dialects.of_response({'message': {'content': 'a'}, 'done': True}, None).NAME)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True True {'edits': 'env'} ollama.chat ollama.chat\n"


def test_type_checkers_see_the_examples_and_our_own(tmp_path: Path) -> None:
    """The examples satisfy mypy in its strict mode, and they and our own importers are an `Importer` to it; what lacks a part is not."""
    for number, (name, heading) in enumerate(
        (
            ("heron", "An importer"),
            ("tasks", "An exporter"),
            ("mini", "An exporter"),
            ("rewards_", "A reward function"),
            ("tools", "A check"),
        )
    ):
        (tmp_path / f"{name}.py").write_text(example(heading, int(number == 2)))
    own = [importers.find(name).__name__ for name in importers.NAMES]  # type: ignore[attr-defined]
    lines = ["import heron", "from odograph.importers import Importer", "one: Importer = heron"]
    for number, name in enumerate(own):
        lines += [f"import {name} as m{number}", f"i{number}: Importer = m{number}"]
    (tmp_path / "half.py").write_text("NAME = 'half'\n")
    (tmp_path / "use.py").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache")]
    (tmp_path / "wrong.py").write_text("import half\nfrom odograph.importers import Importer\ntwo: Importer = half\n")
    files = ["heron.py", "tasks.py", "mini.py", "rewards_.py", "tools.py", "half.py", "use.py", "wrong.py"]
    env = {**os.environ, "MYPYPATH": str(ROOT / "src")}
    done = subprocess.run([*command, *files], cwd=tmp_path, capture_output=True, text=True, check=False, env=env)
    (error,) = (line for line in done.stdout.splitlines() if ": error:" in line)
    assert error.startswith("wrong.py:3: ") and "recognise" in done.stdout, done.stdout


def test_numbers_of_checks_are_true() -> None:
    """Where a page says how many checks there are, it is how many there are."""
    said = [
        int(n)
        for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))
        for n in re.findall(r"(\d+) (?:data-quality )?checks", page.read_text())
    ]
    assert said and set(said) == {len(quality.CHECKS)}


def test_code_that_fails_in_many_lines_is_one_sentence(tmp_path: Path) -> None:
    """What a stranger's file raises while it is loaded may have lines of its own."""
    (tmp_path / "bad.py").write_text("raise ValueError('first\\n\\n  second')\n")
    with pytest.raises(InvalidInput, match=r"can't be loaded: ValueError: first second$"):
        plugins.load(str(tmp_path / "bad.py"))
