"""The program, run as users and scripts run it: in processes, pipes and a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.cli import COMMANDS, parser
from odograph.cli.terminal import cells
from tests.terminal import rest_of

ROOT = Path(__file__).parent.parent.parent
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b\u202egnp.exe\x00\r日本語テキスト" * 3


def run(*args: str, store: Path | None = None, check: int | None = 0, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "odograph", *(["--store", str(store)] if store else []), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    assert "Traceback" not in done.stderr, done.stderr
    if check is not None:
        assert done.returncode == check, (done.returncode, done.stderr, done.stdout)
    return done


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A store with three sessions, the last of them hostile."""
    with odograph.open(tmp_path / "store") as store:
        for n in range(3):
            text = HOSTILE if n == 2 else f"question {n}"
            with (
                store.record(task=text, agent=f"agent-{n}", model="m", group="g", tags=[f"t{n}"]) as record,
                record.step(text) as step,
            ):
                step.context("kb", text, purpose="why")
                call = step.llm_call(
                    model="m",
                    messages=[{"role": "user", "content": text}],
                    response=text,
                    usage={"prompt_tokens": 5, "completion_tokens": 2},
                    reasoning=text,
                )
                step.action(text, {"a": text}, text, ok=True, llm_call=call)
                step.edit(call).rewrite(text, reason=text)
                step.reward(n / 2, rationale=text)
    return tmp_path / "store"


def test_ls_and_the_contract_of_its_json(filled: Path) -> None:
    """`ls --json` prints an object a line with the keys that scripts rely on; the table shows the same; filters narrow both."""
    rows = [json.loads(line) for line in run("ls", "--json", store=filled).stdout.splitlines()]
    keys = [
        "id",
        "task",
        "agent",
        "model",
        "status",
        "steps",
        "llm_calls",
        "actions",
        "prompt_tokens",
        "completion_tokens",
        "reward",
        "started",
        "duration",
        "group",
        "tags",
    ]
    assert [list(r) for r in rows] == [keys] * 3
    assert (rows[1]["agent"], rows[1]["reward"], rows[1]["prompt_tokens"], rows[1]["status"], rows[1]["tags"]) == (
        "agent-1",
        0.5,
        5,
        "completed",
        ["t1"],
    )
    assert re.match(r"\d{4}-\d\d-\d\dT", rows[0]["started"])
    assert rows[0]["id"][-8:] in run("ls", store=filled).stdout
    assert len(run("ls", "--agent", "agent-1", "--json", store=filled).stdout.splitlines()) == 1
    assert len(run("ls", "--min-reward", "0.5", "--since", "1h", "--json", store=filled).stdout.splitlines()) == 2
    assert (
        len(run("ls", "--where", "agent=agent-1", "--where", "min-reward=0.5", "--json", store=filled).stdout.splitlines()) == 1
    )
    assert run("ls", "--until", "2020-01-01", "--json", store=filled).stdout == ""


def test_ls_shows_the_newest_first(filled: Path) -> None:
    """`ls` shows the newest first, `-n N` the N newest, and its last line says how many there are in all."""
    with odograph.open(filled) as store:
        ids = [s.id for s in store.summaries()]
    rows = [json.loads(line)["id"] for line in run("ls", "--json", store=filled).stdout.splitlines()]
    assert rows == ids[::-1]
    assert [json.loads(x)["id"] for x in run("ls", "-n", "2", "--json", store=filled).stdout.splitlines()] == ids[:0:-1]
    lines = run("ls", "-n", "2", store=filled).stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [id[-8:] for id in ids[:0:-1]]
    assert lines[-1] == "the newest 2 of 3 trajectories"
    assert run("ls", "-n", "1", "--agent", "agent-1", store=filled).stdout.splitlines()[-1] == "1 trajectories"
    for limit in ("3", "4"):
        assert run("ls", "-n", limit, store=filled).stdout.splitlines()[-1] == "3 trajectories"


def test_filters_by_id_and_by_policy_version(tmp_path: Path) -> None:
    """`--ids` (repeated, or as arguments of a command that takes IDs) and `--policy-version` choose as in Python; numbers and
    texts are the same version."""
    with odograph.open(tmp_path / "s") as store:
        ids = [store.record(task=n, policy_version=v).id for n, v in enumerate((3, "3", "v4"))]

    def listed(*args: str) -> list[str]:
        return [json.loads(line)["id"] for line in run("ls", "--json", *args, store=tmp_path / "s").stdout.splitlines()]

    assert listed("--policy-version", "3") == ids[1::-1]
    assert listed("--policy-version", "v4") == listed("--where", "policy-version=v4") == ids[2:]
    assert (
        listed("--ids", ids[0], "--ids", ids[2][-8:]) == listed("--where", f"ids={ids[0]}", "--ids", ids[2]) == [ids[2], ids[0]]
    )
    done = run("validate", ids[0], "--ids", ids[1], "--json", store=tmp_path / "s", check=None)
    assert json.loads(done.stdout)["checked"] == 2
    assert "no trajectory 'zzz'" in run("ls", "--ids", "zzz", store=tmp_path / "s", check=1).stderr


def test_show_reads_like_a_session_and_json_is_lossless(filled: Path) -> None:
    """`show` names what was read, asked, answered, done and earned; `--json` gives the whole back."""
    first = json.loads(run("ls", "--json", store=filled).stdout.splitlines()[-1])
    text = run("show", first["id"][-8:], store=filled).stdout
    for part in (
        "question 0",
        "step 0",
        "read kb",
        "(why)",
        "user",
        "thinking",
        "assistant",
        "do question 0",
        "result",
        "reward reward 0",
        "edit",
        "completed",
    ):
        assert part in text
    whole = json.loads(run("show", first["id"], "--json", store=filled).stdout)
    with odograph.open(filled) as store:
        assert whole == json.loads(json.dumps(store.trajectory(first["id"]).to_dict()))


def test_what_agents_wrote_cannot_drive_the_terminal(filled: Path) -> None:
    """No escape sequence, control character or direction override of content reaches stdout of any command for people."""
    ids = [json.loads(line)["id"] for line in run("ls", "--json", store=filled).stdout.splitlines()][::-1]
    for args in (
        ["ls"],
        ["show", ids[2]],
        ["show", "--full", ids[2]],
        ["search", "red"],
        ["tail"],
        ["validate"],
        ["stats", "--by", "agent"],
        ["doctor"],
    ):
        out = run(*args, store=filled, check=None).stdout
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", out), args


def test_search_tail_stats_doctor(filled: Path) -> None:
    """The other reading commands, for people and as JSON."""
    hits = [json.loads(line) for line in run("search", "question", "1", "--json", store=filled).stdout.splitlines()]
    assert hits
    assert all(set(h) == {"trajectory", "kind", "step", "snippet"} and "question 1" in h["snippet"] for h in hits), [
        h for h in hits if "question 1" not in h["snippet"]
    ]
    last = [json.loads(line) for line in run("tail", "-n", "3", "--json", store=filled).stdout.splitlines()]
    assert [r["kind"] for r in last] == ["edit", "reward", "end"]
    stats = json.loads(run("stats", "--by", "agent", "--json", store=filled).stdout)
    assert (stats["trajectories"], stats["reward_mean"], stats["reward_max"], len(stats["parts"])) == (3, 0.5, 1.0, 3)
    doctor = json.loads(run("doctor", "--json", store=filled).stdout)
    assert (doctor["trajectories"], doctor["damages"], doctor["unterminated"]) == (3, [], 0)
    (file,) = (filled / "journal").glob("*")
    with file.open("ab") as out:
        out.write(b"garbage\n")
    assert "garbage" not in run("doctor", store=filled, check=1).stdout
    assert "damaged: " in run("doctor", store=filled, check=1).stdout


def test_validate_and_its_exit_status(filled: Path, tmp_path: Path) -> None:
    """Exit 0 where there are warnings only, 1 on errors; the JSON has the contract's shape; a code can be left out."""
    report = json.loads(run("validate", "--json", store=filled).stdout)
    assert report["valid"] is True
    with odograph.open(filled) as store:
        bad = store.add({"task": "x", "steps": [{"index": 3, "rewards": [{"value": 1}]}]})
    report = json.loads(run("validate", "--json", store=filled, check=1).stdout)
    (finding,) = [f for f in report["findings"] if f["code"] == "step_order"]
    assert finding == {
        "code": "step_order",
        "severity": "error",
        "path": "steps[0].record",
        "message": finding["message"],
        "trajectory": bad,
    }
    run("validate", "--ignore", "step_order", store=filled)
    assert "step_order" in run("validate", bad[-8:], store=filled, check=1).stdout
    assert "no check 'xyz'; there are: " in run("validate", "--ignore", "xyz", store=filled, check=2).stderr


def test_import_and_export(filled: Path, tmp_path: Path) -> None:
    """What `export` writes `import` reads; the reports have the contract's shape; files that are no session are named."""
    manifest = json.loads(run("export", "--to", "jsonl", "-o", str(tmp_path / "out"), "--json", store=filled).stdout)
    assert manifest["trajectories"] == {"in": 3, "out": 3}
    (tmp_path / "out" / "notes.txt").write_text("hello")
    done = run("import", str(tmp_path / "out"), "--json", store=tmp_path / "new")
    report = json.loads(done.stdout)
    assert (report["imported"], report["skipped"], report["failed"]) == (3, 0, [])
    assert all(set(t) == {"id", "source", "format"} for t in report["trajectories"])
    assert any(u.endswith("notes.txt") for u in report["unrecognised"])
    again = run("import", str(tmp_path / "out"), store=tmp_path / "new")
    assert "0 imported, 3 there already" in again.stdout
    assert "notes.txt: no session of a known format" in again.stderr
    failed = json.loads(run("import", str(tmp_path / "out" / "notes.txt"), "--json", store=tmp_path / "new", check=1).stdout)
    assert failed["failed"][0]["error"].startswith("no session of a known format; there are: ")
    assert (
        "3 rows" in run("export", "--to", "hf", "-o", str(tmp_path / "hf"), "--split", "train=0.5,test=0.5", store=filled).stdout
    )


def test_mistakes_are_one_sentence(filled: Path, tmp_path: Path) -> None:
    """Whatever a user gets wrong: one sentence on stderr that says what exists, exit status 1 or 2, and nothing is made."""
    missing = tmp_path / "missing"
    for args, status, says in (
        (["ls"], 1, "no store at"),
        (["show", "x"], 1, "no store at"),
    ):
        assert says in run(*args, store=missing, check=status).stderr
    assert not missing.exists()
    for args, status, says in (
        (["show", "zzz"], 1, "no trajectory 'zzz' among the 3 of this store"),
        (["ls", "--status", "done"], 2, "no status 'done'; there are: completed"),
        (["ls", "--since", "yesterday"], 2, "'yesterday' is no time"),
        (["export", "--to", "xyz", "-o", "o"], 2, "no exporter named 'xyz'; there are: agent-lightning"),
        (["export", "--to", "hf", "-o", "o", "--split", "a"], 2, "--split is written train=0.9,test=0.1; found 'a'"),
        (["import", str(tmp_path / "nowhere")], 1, "no file or folder"),
        (["train", "--dry-run", "--to", "xyz"], 2, "no exporter named 'xyz'; there are: agent-lightning"),
        (["score", "xyz"], 2, "no reward function 'xyz'; there are: "),
        (["import", str(filled), "--format", "xyz"], 2, "no importer named 'xyz'; there are: agent-lightning"),
        (["export", "--to", "hf", "-o", ""], 2, "argument -o/--out: a value was expected, not an empty text"),
        (["show", ""], 2, "argument ID: a value was expected"),
        (["ls", "--store", ""], 2, "argument --store: a value was expected"),
        (["ls", "--ids", ""], 2, "argument --ids: a value was expected"),
        (["search", ""], 2, "a search needs at least one word"),
        (["search", '""'], 2, "a search needs at least one word"),
        (["ls", "--where", "colour=red"], 2, "no filter 'colour'; there are: ids, group"),
        (["ls", "--where", "agent"], 2, "--where is written FILTER=VALUE; found 'agent'"),
        (["ls", "--where", "min-rewards=1"], 2, "limit; did you mean 'min_reward'?"),
        (["frobnicate"], 2, "invalid choice: 'frobnicate'"),
        (["ls", "--limit", "many"], 2, "a whole number was expected, not 'many'"),
        ([], 2, "a command was expected; there are: demo, import, ls"),
    ):
        done = run(*args, store=filled, check=status, cwd=tmp_path)
        assert says in done.stderr
        assert len(done.stderr.splitlines()) <= 1
    (tmp_path / "file").write_text("x")
    assert "no store at" in run("ls", store=tmp_path / "file", check=1).stderr
    assert "is a file; a store is a folder" in run("import", str(filled), store=tmp_path / "file", check=1).stderr


def test_a_store_of_a_newer_version(filled: Path) -> None:
    """A store that a later Odograph wrote is refused with a sentence that says which version it has."""
    (file,) = (filled / "journal").glob("*")
    file.write_bytes(file.read_bytes().replace(b'"schema_version":1', b'"schema_version":7', 1))
    assert "has schema version 7; this odograph reads up to 1: install a newer one" in run("ls", store=filled, check=1).stderr


def test_pipes_that_close_are_silent(filled: Path) -> None:
    """`odograph ... | head -1` prints a line and no complaint."""
    with odograph.open(filled) as store:
        with store.record(task="big") as record:
            for _ in range(200):
                record.step("x" * 2000).note("y" * 2000)
    command = f"{sys.executable} -m odograph --store {filled} show {record.id} --json | head -c 100"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith('{"id"')
    assert done.stderr == ""


def test_tail_follows_another_process(filled: Path) -> None:
    """`tail -f` shows what another process records, as it records it, and ends quietly with Ctrl-C."""
    tail = subprocess.Popen(
        [sys.executable, "-m", "odograph", "--store", str(filled), "tail", "-f", "-n", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's background job ignores
    )
    assert tail.stdout
    assert tail.stderr
    assert json.loads(tail.stdout.readline())["kind"] == "end"
    with odograph.open(filled) as store, store.record(task="live") as record:
        record.note("now")
        assert json.loads(tail.stdout.readline())["task"] == "live"
        assert json.loads(tail.stdout.readline())["data"] == "now"
    tail.send_signal(signal.SIGINT)
    assert tail.wait() == 0
    assert tail.stderr.read() == ""
    tail.stdout.close()
    tail.stderr.close()


def on_a_terminal(args: list[str], **env: str) -> str:
    """What a command prints to a terminal of 60 columns."""
    import fcntl
    import struct
    import termios

    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
        inherited = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}  # which parallel tests have
        os.execvpe(
            sys.executable, [sys.executable, "-m", "odograph", *args], {**inherited, "TERM": "xterm", "PAGER": "cat", **env}
        )
    out = rest_of(fd)
    os.waitpid(pid, 0)
    os.close(fd)
    return out.decode()


def test_colour_and_width_on_a_terminal(filled: Path) -> None:
    """On a terminal there is colour, lines keep to its width, wide characters counted; NO_COLOR is obeyed."""
    id = json.loads(run("ls", "--json", store=filled).stdout.splitlines()[0])["id"]
    coloured = on_a_terminal(["--store", str(filled), "show", id], NO_COLOR="")
    assert "\x1b[1m" in coloured
    plain = on_a_terminal(["--store", str(filled), "show", id], NO_COLOR="1")
    assert "\x1b[" not in plain


def test_tables_fit_the_terminal(filled: Path) -> None:
    """In a terminal of 60 columns no line of a table is longer: texts are cut, then columns are left out, and the ids, the status
    and the reward stay."""
    with odograph.open(filled) as store:
        for n in range(2):
            with store.record(
                task="a task of many words " * 9,
                agent="a-long-agent-name " * 3,
                model="openai/gpt-4o-2024-08-06" * 2,
                group="g" * 99,
            ) as record:
                record.reward(-0.123456 * n)
    for args in (["ls"], ["stats"], ["stats", "--by", "group"], ["stats", "--by", "agent", "--patterns"], ["train", "--dry-run"]):
        table = on_a_terminal(["--store", str(filled), *args], NO_COLOR="1").splitlines()
        table = [line for line in table if not line.startswith("nothing is done")]  # a sentence
        assert len(table) > 1 and max(map(cells, table)) <= 60, (args, table)
        if args == ["ls"]:
            assert {"id", "status", "reward", "task"} <= set(table[0].split())
            assert table[1].split()[0] == record.id[-8:] and "-0.1235" in table[1]
    wide = run("ls", store=filled).stdout
    assert "a task of many words " * 8 in wide and "started" in wide


def test_every_command_and_flag_is_documented() -> None:
    """docs/cli.md names each command and each of its flags."""
    text = (ROOT / "docs" / "cli.md").read_text()
    top = parser()
    commands = next(a for a in top._actions if a.dest == "command").choices
    assert set(commands) == set(COMMANDS)  # type: ignore[arg-type]
    for name, sub in commands.items():  # type: ignore[union-attr]
        assert f"## {name}" in text, name
        for action in sub._actions:
            for flag in action.option_strings:
                if flag.startswith("--") and flag not in ("--help",):
                    assert f"`{flag}" in text, (name, flag)


def loaded_by(code: str, *args: str) -> set[str]:
    """The modules that a program has loaded when it ends."""
    code += "\nimport sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True).stdout.split())


def test_an_import_loads_nothing_before_a_name_is_asked_for() -> None:
    """`import odograph` costs next to nothing: no other module is loaded."""
    new = loaded_by("import odograph") - loaded_by("")
    assert {name for name in new if not name.startswith("_")} == {"odograph"}


def test_who_only_records_loads_no_more(tmp_path: Path) -> None:
    """A program that opens a store and records has loaded neither what reads and seals nor heavy packages: no SQLite, asyncio,
    argparse, Arrow, DuckDB, SDK or web server."""
    code = """
import sys, odograph
with odograph.open(sys.argv[1]) as store, store.record(task="x") as run, run.step() as step:
    step.llm_call(model="m", messages=[{"role": "user", "content": "q"}], response="a")
    step.reward(1.0)
"""
    modules = loaded_by(code, str(tmp_path / "s"))
    heavy = ("pyarrow", "duckdb", "daft", "openai", "anthropic", "httpx", "httpx2", "datasets", "pandas", "numpy", "tqdm")
    late = ("sqlite3", "asyncio", "concurrent.futures", "argparse", "logging", "multiprocessing", "html", "shutil")
    own = ("store.catalog", "store.reader", "store.sealing", "tables.folder", "capture.wrap", "cli", "runtime", "training")
    assert "odograph.store.journal" in modules and not modules & {*heavy, *late, *(f"odograph.{name}" for name in own)}


def test_the_public_names_are_there_however_they_are_asked_for() -> None:
    """`dir`, `import *`, `__version__`, a name that is none, and a call outside of any run, with a name that needs no store."""
    code = """
from odograph import wrap
from odograph.capture import scope
assert scope.outside is not None
import odograph
assert set(odograph.__all__) <= set(dir(odograph)) and odograph.__version__ == "0.1.0"
assert not hasattr(odograph, "samplse")
names = {}
exec("from odograph import *", names)
assert set(odograph.__all__) <= set(names) and names["wrap"] is wrap is odograph.wrap
"""
    assert "odograph.api" in loaded_by(code)
