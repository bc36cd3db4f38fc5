"""`odograph show`: a session as people read it, each thing once and where it happened."""

from __future__ import annotations

import json
import os
import pty
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import shown
from odograph.cli import main
from tests.terminal import rest_of

TIDES = "at\n" * 100 + "noon"


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": text}


@pytest.fixture
def team(store: odograph.Store) -> str:
    """A run whose second step started a sub-agent, and whose history was cut before the last call."""
    asked = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q": "tides"}'}}
    answer = {"role": "assistant", "content": None, "tool_calls": [asked]}
    with store.record(task="when is high tide?", agent="lead") as run:
        history = [said("be brief", "system"), said("when is high tide?")]
        with run.step("when is high tide?") as step:
            usage = {"prompt_tokens": 1234, "completion_tokens": 2}
            call = step.llm_call(model="m", messages=history, response=answer, usage=usage, cost=0.5)
            step.action("search", {"q": "tides"}, TIDES, ok=True, llm_call=call, tool_call_id="c1")
        history += [answer, {"role": "tool", "tool_call_id": "c1", "content": TIDES}]
        with run.step() as step:
            step.llm_call(model="m", messages=history, response="a helper knows")
            with step.acting("ask", {"who": "helper"}) as action:
                with action.sub_agent("helper").step() as inner:
                    inner.llm_call(model="s", messages=[said("which harbour?")], response="the old one")
                action.result = "harbour: the old one"
        with run.step() as step:
            step.llm_call(model="m", messages=[said("be brief", "system"), said("summary: noon")], response="at noon, there")
        run.note({"before": 9}, name="compaction")
        run.finish("noon")
    return run.id


def printed(store: odograph.Store, capsys: Any, *args: str) -> str:
    assert main(["--store", str(store.root), "show", *args]) == 0
    out: str = capsys.readouterr().out
    return out


def test_each_thing_is_shown_once(store: odograph.Store, team: str, capsys: Any) -> None:
    """What was observed, sent, answered and returned stands there once, though prompts send it again; what a prompt leaves out
    is counted; steps have their tokens and price."""
    out = printed(store, capsys, team, "--full")
    for text in (
        "user: when is high tide?",
        "be brief",
        "which harbour?",
        "a helper knows",
        "harbour: the old one",
        "summary",
    ):
        assert out.count(text) == 1, text
    assert "3 messages of the prompt before are left out here" in out
    assert out.count("    noon\n") == 1
    assert re.search(r"── step 0 .*1,234 → 2 tokens · \$0.5", out)
    assert "observed" not in out
    assert "→ search" not in out  # its action shows it
    assert 'do search({"q":"tides"}) ok' in out
    assert "compaction (compaction)" in out


def test_a_sub_agent_is_shown_inside_what_started_it(store: odograph.Store, team: str, capsys: Any) -> None:
    """A sub-agent's steps stand between the action that started it and the action's result, indented."""
    lines = [line.strip() for line in printed(store, capsys, team).split("\n")]
    at = [
        next(i for i, line in enumerate(lines) if text in line)
        for text in ("do ask(", "step 0 · helper", "the old one", "result: harb")
    ]
    assert at == sorted(at)
    assert lines[at[2]].startswith("│ ")
    entries = list(shown.session(store.trajectory(team)))
    assert {e.depth for e in entries if e.agent == "helper"} == {1}
    assert [e.kind for e in entries if e.depth == 1] == ["step", "message", "call", "answer"]


@pytest.mark.parametrize("known_by", ["parent", "fork"])
def test_a_sub_agent_with_a_trajectory_of_its_own_is_named(store: odograph.Store, capsys: Any, known_by: str) -> None:
    """Where the work of a sub-agent is a trajectory, the action that started the sub-agent names it, and it names its parent."""
    child = "0199a001-0000-7e20-8f6a-39e94cfa7b70"
    parent = store.add(
        {"task": "Mend", "actions": [{"name": "spawn", "arguments": {}, "result": "a", "extra": {"trajectory": child}}]}
    )
    about: dict[str, Any] = {
        "parent": {"metadata": {"source": {"parent": {"trajectory": parent}}}},
        "fork": {"fork": {"trajectory": parent, "reason": "sub-agent"}},
    }
    one = store.add({"task": "Help", **about[known_by], "actions": [{"name": "look"}]})
    out = printed(store, capsys, parent)
    assert out.index("do spawn(") < out.index(f"· sub-agent: {child}") < out.index("result: a")
    assert f"sub-agent of {parent}" in printed(store, capsys, one) and "fork of" not in printed(store, capsys, one)
    assert f"*sub-agent: {child}*" in printed(store, capsys, parent, "--markdown")
    assert f"- sub agent of: {parent}" in printed(store, capsys, one, "--markdown")
    compact = json.loads(printed(store, capsys, one, "--json", "--compact"))
    assert (compact["sub_agent_of"], compact["fork_of"]) == (parent, parent if known_by == "fork" else None)


def test_long_texts_are_folded_with_a_count(store: odograph.Store, team: str, capsys: Any) -> None:
    """A result of 101 lines shows its first lines and says how much is hidden; `--full` hides nothing."""
    out = printed(store, capsys, team)
    assert out.count("    at\n") == 12
    assert "… 89 more lines, 269 more characters (--full shows all)" in out
    assert printed(store, capsys, team, "--full").count("    at\n") == 100
    assert shown.fold("a\nb") == shown.Folded("a\nb")


def test_one_step_and_one_agent(store: odograph.Store, team: str, capsys: Any) -> None:
    """`--step N` shows a step with the sub-agents that it started, `--agent` what one did; of others it says which there are."""
    out = printed(store, capsys, team, "--step", "1")
    assert "a helper knows" in out and "the old one" in out and "be brief" not in out and "completed ──" not in out
    out = printed(store, capsys, team, "--agent", "helper")
    assert "the old one" in out and "a helper knows" not in out
    for flags, told in (
        (["--step", "7"], "no step 7 in this trajectory; there are 0 to 2"),
        (["--agent", "x"], "there are: lead, helper"),
    ):
        assert main(["--store", str(store.root), "show", team, *flags]) == 2
        assert told in capsys.readouterr().err


def test_markdown_keeps_content_in_its_place(store: odograph.Store, team: str, capsys: Any) -> None:
    """A page of Markdown has a heading per step; no text of an agent ends its quotation or fence, or becomes a tag or picture."""
    out = printed(store, capsys, team, "--markdown")
    assert out.startswith("# when is high tide?\n") and "\n## Step 1" in out and "\n> ## Step 0 · helper" in out
    evil = "```\n# head\n<script>x</script> ![p](http://h/p)\n````"
    with store.record(task="# <b>") as run:
        run.step().action("a`b", {"x": evil}, evil)
        run.step().llm_call(model="m", messages=[said("<i> ![p](http://h/p)\n# head")], response="ok")
    out = printed(store, capsys, run.id, "--markdown")
    assert out.startswith(r"# \# \<b\>")
    assert "\n`````\n```\n# head\n" in out
    assert "> &lt;i> !\\[p](http://h/p)\n> # head" in out
    outside = re.sub(r"^(`{3,})$.*?^\1$", "", out, flags=re.M | re.S)
    assert "<" not in outside.replace(r"\<", "") and "\n# head" not in outside


def test_compact_json_is_linear_in_the_session(store: odograph.Store, team: str, capsys: Any) -> None:
    """`--json --compact` has the facts and each message once: ten times the turns are ten times the bytes."""
    found = json.loads(printed(store, capsys, team, "--json", "--compact"))
    assert found["id"] == team and found["cost"] == 0.5
    assert [e["content"] for e in found["session"] if e["kind"] == "message"] == [
        "be brief",
        "when is high tide?",
        "which harbour?",
        "summary: noon",
    ]
    assert next(e for e in found["session"] if e["kind"] == "action")["result"] == TIDES

    def size(turns: int) -> int:
        history = []
        with store.record(task="t") as run:
            for k in range(turns):
                history += [said(f"question {k:04} " * 10)]
                run.step().llm_call(model="m", messages=history, response=f"answer {k:04}")
                history += [said(f"answer {k:04}", "assistant")]
        return len(printed(store, capsys, run.id, "--json", "--compact"))

    assert size(300) < 11 * size(30)
    assert main(["--store", str(store.root), "show", team, "--compact"]) == 2
    assert "--compact goes with --json" in capsys.readouterr().err


def test_a_pager_on_a_terminal(store: odograph.Store, team: str, tmp_path: Path) -> None:
    """On a terminal with somebody at it the session goes through $PAGER; one that ends early is no failure."""

    def on_a_terminal(pager: str) -> tuple[str, int]:
        pid, fd = pty.fork()
        if pid == 0:
            env = {**os.environ, "TERM": "xterm", "PAGER": pager, "NO_COLOR": "1"}
            os.execvpe(
                sys.executable, [sys.executable, "-m", "odograph", "--store", str(store.root), "show", team, "--full"], env
            )
        out = rest_of(fd)
        os.close(fd)
        return out.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    out, status = on_a_terminal("sed s/^/paged:/")
    assert status == 0 and out.count("paged:") == len(out.splitlines()) > 100
    assert on_a_terminal("head -n 1")[1] == 0
    for none in ("no-such-pager", "", "less 'unclosed"):
        out, status = on_a_terminal(none)
        assert status == 0 and "noon" in out and "Traceback" not in out


def test_a_damaged_tree_is_shown_all_the_same(store: odograph.Store) -> None:
    """Records whose parents lead round in a circle, or to nothing, are shown."""
    records = [
        {"kind": "action", "name": "a", "id": "0a", "parent": "0b"},
        {"kind": "action", "name": "b", "id": "0b", "parent": "0a"},
        {"kind": "action", "name": "c", "id": "0c", "parent": "gone"},
    ]
    t = store.trajectory(store.add({"task": "t", "actions": records}))
    names = [e.about["name"] for e in shown.session(t) if e.kind == "action"]
    assert sorted(names) == ["a", "b", "c"]
