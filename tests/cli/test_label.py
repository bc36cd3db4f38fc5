"""`odograph label`, as users and scripts run it: by a judge over HTTP, and by hand in a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.waiting import until

pytest.importorskip("daft")

import odograph
from odograph.cli import main
from odograph.labels import current
from odograph.worlds import Rubric
from tests.worlds.judge_server import JudgeServer, Say
from tests.worlds.sessions import GRADED, RUBRIC, recorded


def said(value: str = "careful", **more: Any) -> str:
    return json.dumps({"rationale": f"it is {value}", "value": value, **more})


def command(store: Path, *args: str) -> list[str]:
    return [sys.executable, "-m", "odograph", "--store", str(store), "label", *args]


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")} | {"OPENAI_API_KEY": "x", "NO_COLOR": "1"}


class Done(NamedTuple):
    stdout: str
    stderr: str


def run(store: Path, *args: str, check: int = 0, input: str = "", command: str = "label") -> Done:
    """The command, in this process."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        patch.delenv("OPENAI_BASE_URL", raising=False)
        patch.setattr(sys, "stdin", io.StringIO(input))
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        status = main(["--store", str(store), command, *args])
    out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    assert "Traceback" not in err, err
    assert status == check, (status, err, out)
    return Done(out, err)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path, list[str]]:
    (tmp_path / "care.md").write_text(RUBRIC)
    with odograph.open(tmp_path / "s") as store:
        ids = [recorded(store, n) for n in range(8)]
    return tmp_path / "s", tmp_path / "care.md", ids


def test_a_judge_labels_a_sample_and_pays_once(made: tuple[Path, Path, list[str]]) -> None:
    """A dry run says the cost, asks nothing and writes nothing; a run labels the sample and writes records; again it asks nothing;
    a larger sample pays for what is new; a changed rubric asks anew and says how many labels are stale."""
    store, rubric, _ = made
    with JudgeServer(lambda text: said("careful" if "task 1" in text else "hasty")) as server:
        args = (str(rubric), "--base-url", server.url, "--sample", "4", "--seed", "1")
        assert run(store, command="ls").stdout
        before = sorted(p.name for p in store.iterdir())
        dry = json.loads(run(store, *args, "--dry-run", "--json", "--prices", "1,10").stdout)
        assert (dry["trajectories"], dry["estimate"]["rows"], dry["estimate"]["calls"]) == (4, 4, 4) and dry["estimate"][
            "cost"
        ] > 0
        assert "nothing was asked" in run(store, *args, "--dry-run").stdout
        assert len(server) == 0 and sorted(p.name for p in store.iterdir()) == before
        first = run(store, *args, "--json")
        assert "4 labels to ask for: at most 4 requests" in first.stderr
        found = json.loads(first.stdout)
        assert (found["statuses"], found["spent"]["calls"], found["written"]["labels"]) == ({"ok": 4}, 4, 4)
        assert {body["model"] for _, body in server.requests} == {"gpt-5-mini"}
        again = json.loads(run(store, *args, "--json").stdout)
        assert (again["spent"]["calls"], again["written"]["labels"], len(server)) == (0, 0, 4)
        more = json.loads(run(store, str(rubric), "--base-url", server.url, "--sample", "6", "--seed", "1", "--json").stdout)
        assert (more["spent"]["calls"], more["statuses"], len(server)) == (2, {"ok": 6}, 6)
        few = ("--base-url", server.url, "--sample", "2", "--seed", "1", "--model", "other", "--json")
        assert (
            json.loads(run(store, str(rubric), *few).stdout)["statuses"] == {"ok": 2} and len(server) == 8
        )  # no more than asked
        rubric.write_text(RUBRIC.replace("before it", "long before it"))
        changed = run(store, *args)
        assert len(server) == 12 and "6 labels are stale" in changed.stdout
        rubric.write_text(RUBRIC)  # back again: the journal knows the answers
        assert json.loads(run(store, *args, "--json").stdout)["spent"]["calls"] == 0 and len(server) == 12
    with odograph.open(store) as opened:
        labels = [r for t in opened.trajectories() for r in t.labels]
        assert len(labels) == 12 and {r.rubric_hash for r in labels} >= {Rubric.of(RUBRIC).version}
        assert {r.score for r in labels} <= {1.0, 0.5} and {r.author for r in labels} == {"gpt-5-mini", "other"}
        changed_id = next(
            t.id for t in opened.trajectories() if len({r.rubric_hash for r in t.labels}) == 2 and len(t.labels) == 2
        )
    shown = run(store, changed_id, command="show").stdout
    assert len(re.findall(r"label care .*\(stale\)", shown)) == 1


def test_filters_budget_and_failures(made: tuple[Path, Path, list[str]]) -> None:
    """The rubric's and the command's filters hold together; a budget stops, with status 1 and the reason; the next run asks what is
    missing; an answer outside of the rubric's values is a failure of its row."""
    store, rubric, _ = made
    with odograph.open(store) as opened:
        recorded(opened, 9, agent="other")
    rubric.write_text(RUBRIC.replace("judge:", "where: agent=solver\njudge:"))
    with JudgeServer(lambda text: said("splendid" if "task 3" in text else "careful")) as server:
        args = (str(rubric), "--base-url", server.url, "--model", "j", "--json", "--rewards")
        found = json.loads(run(store, *args, "--budget-calls", "3", check=1).stdout)
        assert (len(server), found["trajectories"], found["statuses"]["over_budget"]) == (3, 8, 5)
        assert "a budget of 3 calls" in next(f["error"] for f in found["failed"] if f["status"] == "over_budget")
        found = json.loads(run(store, *args, check=1).stdout)
        assert (len(server), found["statuses"]) == (8, {"ok": 7, "parse_error": 1})
        assert "it is one of: careful, hasty, careless" in found["failed"][0]["error"]
        text = run(store, str(rubric), "--base-url", server.url, "--model", "j", check=1).stdout
        assert "parse_error" in text and "careful" in text
    with odograph.open(store) as opened:
        assert sorted(t.reward or 0.0 for t in opened.trajectories()) == [0.0, 0.0, *[1.0] * 7]


def test_a_killed_run_pays_for_no_answer_again(made: tuple[Path, Path, list[str]]) -> None:
    """SIGKILL in the middle: the next run asks only what was not answered."""
    store, rubric, _ = made
    with JudgeServer(lambda text: said(), delay=0.15) as server:
        args = (str(rubric), "--base-url", server.url, "--concurrency", "1")
        process = subprocess.Popen(command(store, *args), env=environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until(lambda: len(server) >= 4, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        server.delay = 0.0
        found = json.loads(run(store, *args, "--json").stdout)
        assert found["statuses"] == {"ok": 8} and found["from_journal"] >= 3
        assert len(set(server.prompts)) == 8 and len(server) <= 9  # what was under way when it was killed


def test_turns_are_labelled_with_quotes_that_occur(made: tuple[Path, Path, list[str]], tmp_path: Path) -> None:
    """A rubric on turns gives findings; a quote that occurs nowhere is dropped and counted; each finding is a record whose target
    is the record of its turn; what the judge finds no more is taken back."""
    store, _, ids = made
    (tmp_path / "slip.md").write_text("---\ntechnique: slip\nvalues: slip = 0, fine = 1\non: turn\n---\nWhich turns are slips?\n")
    findings = [
        {"turn": 5, "quote": "def login(): ...", "value": "slip", "rationale": "not read"},
        {"turn": 5, "quote": "never said", "value": "slip", "rationale": "invented"},
        {"turn": 99, "quote": "fixed", "value": "fine", "rationale": "no such turn"},
        {"turn": 3, "quote": "let me look", "value": "fine", "rationale": "it looks"},
    ]
    with JudgeServer(lambda text: json.dumps({"findings": findings})) as server:
        args = (str(tmp_path / "slip.md"), "--base-url", server.url, "--model", "j", "--ids", ids[0], "--json")
        found = json.loads(run(store, *args).stdout)
        assert (found["evidence_dropped"], found["values"], found["score"]) == (2, {"2": 1}, 0.5)
        with odograph.open(store) as opened:
            t = opened.trajectory(ids[0])
            parts = {r.value: r.target for r in current(t.labels) if (r.extra or {}).get("turn")}
            assert parts == {"slip": t.actions[0].id, "fine": t.llm_calls[0].id}
        findings.pop()
        found = json.loads(run(store, *args, "--model", "j2").stdout)  # another panel is another author
        run(store, *args, "--param", "seed=2")
        with odograph.open(store) as opened:
            mine = [r for r in current(opened.trajectory(ids[0]).labels) if r.author == "j"]
            assert sorted((r.value, r.score) for r in mine) == [("1", 0.0), ("slip", 0.0)]


def test_steps_are_labelled(made: tuple[Path, Path, list[str]], tmp_path: Path) -> None:
    """A rubric on steps: the judge is told the steps of turns, and a label's target is the step."""
    store, _, ids = made
    (tmp_path / "s.md").write_text("---\ntechnique: stalls\nvalues: stall\non: step\n---\nWhich steps go nowhere?\n")
    findings = [
        {"step": 1, "quote": "fixed", "value": "stall", "rationale": "r"},
        {"step": 0, "quote": "fixed", "value": "stall"},
    ]
    with JudgeServer(lambda text: json.dumps({"findings": findings})) as server:
        run(store, str(tmp_path / "s.md"), "--base-url", server.url, "--ids", ids[0])
        assert '"step":1' in server.prompts[0]
    with odograph.open(store) as opened:
        t = opened.trajectory(ids[0])
        assert [(r.value, r.target) for r in t.labels] == [("stall", t.steps[1].id), ("1", None)]


def test_people_label_by_keys_in_a_terminal(made: tuple[Path, Path, list[str]]) -> None:
    """One key is one label; undo, comment, skip and quit; what was labelled is kept at once, and the queue goes on. The judge's
    verdict is nowhere on the screen, and no escape sequence of a session reaches it."""
    store, rubric, ids = made
    with odograph.open(store) as opened:
        for id in ids:
            opened.append(id).label("care", "JUDGED", author="j", rubric_hash=Rubric.of(RUBRIC).version)
        hostile = recorded(opened, 66, tags=["x"])
        opened.append(hostile)
    screen = typed(store, rubric, ["1", "3", "u", "c", "why not\n", "2", "s", "q"])
    assert "JUDGED" not in screen and "[1/9]" in screen and "taken back" in screen
    assert "Did the agent look" in screen and "1 careful" in screen
    with odograph.open(store) as opened:
        mine = [r for t in opened.trajectories() for r in current(t.labels) if r.author == "ann"]
        assert sorted((r.value, r.rationale) for r in mine) == [("careful", None), ("hasty", "why not")]
    screen = typed(store, rubric, ["1"] * 7)
    assert "nothing is left to label" in screen and "9 of 9 labelled" in screen


def typed(store: Path, rubric: Path, keys: list[str]) -> str:
    """What a terminal shows while keys are typed, each after a prompt."""
    main, side = pty.openpty()
    environ = environment() | {"TERM": "dumb"}
    process = subprocess.Popen(
        command(store, str(rubric), "--human", "--annotator", "ann"), stdin=side, stdout=side, stderr=side, env=environ
    )
    os.close(side)
    shown, waiting, seen = "", list(keys), 0
    with contextlib.suppress(OSError):  # how a terminal ends on Linux
        while data := os.read(main, 1 << 16):
            shown += data.decode(errors="replace")
            while found := [n for n in (shown.find("> ", seen), shown.find("comment: ", seen)) if n >= 0]:
                seen = min(found) + 2
                os.write(main, waiting.pop(0).encode() if waiting else b"\x04")  # the end of what is typed
    process.wait()
    os.close(main)
    return shown


def test_people_label_from_a_script_and_by_files(made: tuple[Path, Path, list[str]], tmp_path: Path) -> None:
    """Without a terminal, lines are answers: words or numbers; CSV goes out and comes in; scores are typed in the rubric's range."""
    store, rubric, ids = made
    done = run(store, str(rubric), "--human", "--annotator", "ann", "--sample", "3", input="careful\n2\nnonsense\n3\n")
    assert "3 of 3 labelled" in done.stdout and "'nonsense'" in done.stdout
    (tmp_path / "depth.md").write_text(GRADED)
    run(store, str(tmp_path / "depth.md"), "--human", "--annotator", "ann", "--sample", "2", input="9\n4\n5\n")
    out = run(store, str(rubric), "--to-csv", "-").stdout
    assert out.splitlines()[0].startswith("trajectory,technique,value") and len(out.splitlines()) == 4
    (tmp_path / "in.csv").write_text(f"trajectory,value\n{ids[0]},careful\n{ids[1]},hasty\n")
    args = (str(rubric), "--from-csv", str(tmp_path / "in.csv"), "--annotator", "bob", "--json")
    assert json.loads(run(store, *args).stdout) == {"labels": 2, "unchanged": 0, "skipped": 0}
    assert json.loads(run(store, *args).stdout) == {"labels": 0, "unchanged": 2, "skipped": 0}
    with odograph.open(store) as opened:
        depth = [r.score for t in opened.trajectories() for r in t.labels if r.technique == "depth"]
    assert sorted(depth) == [0.75, 1.0]


def test_mistakes_are_one_sentence(made: tuple[Path, Path, list[str]], tmp_path: Path) -> None:
    """A missing rubric, one without values, flags that don't go together, a file that is none, an endpoint that is dead."""
    store, rubric, _ = made
    (tmp_path / "bad.md").write_text("---\ntechnique: t\n---\nx\n")
    cases = (
        (("none.md",), 1, "none.md"),
        ((str(tmp_path / "bad.md"),), 2, "found neither"),
        ((str(rubric), "--human", "--to-csv", "x"), 2, "don't go together"),
        ((str(rubric), "--sample", "0"), 2, "--sample"),
        ((str(rubric), "--from-csv", "none.csv"), 1, "none.csv"),
        ((str(rubric), "--budget-cost", "1"), 2, "prices"),
    )
    for args, status, words in cases:
        done = run(store, *args, check=status)
        assert words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    keyless = {name: value for name, value in environment().items() if name != "OPENAI_API_KEY"}
    done = subprocess.run(command(store, str(rubric), "--sample", "1"), env=keyless, capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[-1][:20]) == (2, "odograph: no key for")
    dead = ("--base-url", "http://127.0.0.1:9/v1", "--max-retries", "0", "--sample", "1")
    done = subprocess.run(command(store, str(rubric), *dead), env=environment(), capture_output=True, text=True)
    assert done.returncode == 1 and "http_error" in done.stdout
    assert "Unclosed" not in done.stderr  # aiohttp's own complaint
    with JudgeServer(lambda text: Say("no", 401)) as server:
        assert "http_error" in run(store, str(rubric), "--base-url", server.url, "--sample", "1", check=1).stdout
