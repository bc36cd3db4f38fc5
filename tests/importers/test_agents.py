"""Coding agents that people have, and rows for training: recognised by no other importer, every text, argument, result and figure there."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import odograph
from odograph import importers
from odograph.cli import main
from odograph.importers.places import places

from . import agents
from .agents import AIDER, LINES, WHOLE
from .junk import JUNK, spoiled
from .test_growing import content


def lines(folder: Path, name: str) -> Path:
    path = folder / LINES[name][0]
    path.write_text("".join(json.dumps(v) + "\n" for v in LINES[name][1]))
    return path


def whole(folder: Path, name: str, size: int = 99) -> Path:
    path = folder / WHOLE[name][0]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(WHOLE[name][1](size), indent=2))
    return path


def text(folder: Path) -> Path:
    path = folder / ".aider.chat.history.md"
    path.write_text(AIDER)
    return path


#: (importer, where its sessions are, which a person would recognise)
AGENTS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    **{
        f"{name} lines": (name, lambda folder, name=name: lines(folder, name))
        for name in ("copilot", "droid", "kimi", "cursor", "goose")
    },
    **{f"{name} whole": (name, lambda folder, name=name: whole(folder, name)) for name in WHOLE},
    "opencode database": ("opencode", lambda folder: agents.opencode(folder / "opencode.db")),
    "cursor database": ("cursor", lambda folder: agents.cursor(folder / "state.vscdb")),
    "cursor chat": ("cursor", lambda folder: agents.cursor_chat(folder / "store.db")),
    "kimi folder": ("kimi", agents.kimi),
    "kimi-code folder": ("kimi-code", agents.kimi_code),
    "goose database": ("goose", lambda folder: agents.goose(folder / "sessions.db")),
    "aider": ("aider", text),
}


@pytest.mark.parametrize("name", AGENTS)
def test_a_session_of_an_agent(store: odograph.Store, tmp_path: Path, name: str) -> None:
    """The person's task, the tool that the model asked for with arguments, result and outcome, what it thought and answered: each is
    there, once, in order, under the agent's name; a second import adds nothing."""
    importer, write = AGENTS[name]
    path = write(tmp_path)
    report = store.import_sessions(path)
    assert (report.failed, {t["format"] for t in report.trajectories}) == ([], {importer})
    assert store.import_sessions(path).imported == 0
    t = next(t for t in store.trajectories() if str(t.task).startswith("Mend the net"))
    assert t.agent in (importer, "copilot", "kimi-cli", "cline") and t.metadata["source"]["interactive"] is True
    assert t.task == ("Mend the net\nwith twine" if importer == "aider" else "Mend the net")
    assert importer == "aider" or "Mended" in [c for c in t.llm_calls if c.agent is None][-1].text
    if importer == "aider":
        return
    action = t.actions[0]
    assert len(t.actions) == {"kimi folder": 2, "kimi-code folder": 3}.get(name, 1)  # with a sub-agent
    assert action.name and {"ls"} == set(action.arguments.values())
    assert action.llm_call == next(c.id for c in t.llm_calls if action.step == c.step)
    if name != "cursor lines":  # which have neither results nor thoughts
        assert "twine" in json.dumps(action.result)
        assert "which knot" in [c.reasoning for c in t.llm_calls]
        assert any("twine" in json.dumps(m) for c in t.llm_calls if c.agent is None for m in c.messages)
    assert odograph.validate(t).errors == []


FIGURES = {
    "copilot lines": (False, 15, 5, None),
    "droid lines": (False, None, None, None),
    "goose lines": (True, None, None, None),
    "cline whole": (None, 25, 2, 0.5),
    "cline-cli whole": (False, 25, 2, None),
    "amp whole": (False, 25, 2, None),
    "continue whole": (False, 25, 2, 0.5),
    "opencode database": (False, 25, 3, 0.5),
    "cursor database": (False, 25, 2, None),
    "kimi folder": (True, 25, 2, None),
    "kimi-code folder": (False, 25, 2, None),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_a_session(store: odograph.Store, tmp_path: Path, name: str) -> None:
    """Whether the tool failed, and the first call's tokens (cached ones are part of the prompt's) and price."""
    store.import_sessions(AGENTS[name][1](tmp_path))
    t = next(t for t in store.trajectories() if t.task == "Mend the net")
    call = t.llm_calls[0]
    assert (t.actions[0].ok, call.prompt_tokens, call.completion_tokens, call.cost) == FIGURES[name]


def test_no_importer_takes_the_files_of_another(tmp_path: Path) -> None:
    """Each file is taken by its own importer alone, whichever is asked first."""
    known = [importers.find(name) for name in importers.names()]
    made = {
        n: (importer, write((folder := tmp_path / str(k)).mkdir() or folder))
        for k, (n, (importer, write)) in enumerate(AGENTS.items())
    }
    for k, name in enumerate(("atropos", "agent-lightning", "art", "preferences")):
        (folder := tmp_path / f"row{k}").mkdir()
        made[name] = (name, lines(folder, name))
    for name, (importer, path) in made.items():
        head = b"" if path.is_dir() else path.read_bytes()[: 64 * 1024]
        assert [one.NAME for one in known if one.recognise(path, head)] == [importer], name


def test_a_kimi_session_is_its_folder(store: odograph.Store, tmp_path: Path) -> None:
    """Contexts give the prompts, across a compaction; the wire gives times, tokens, outcomes and the sub-agent, which belongs to the
    call that started it. Each file of the folder is the same session."""
    folder = agents.kimi(tmp_path)
    assert store.import_sessions(tmp_path).imported == 1
    for name in ("context.jsonl", "context_1.jsonl", "wire.jsonl"):
        assert store.import_sessions(folder / name).skipped == 1
    (t,) = store.trajectories()
    asked, started, mended = (c for c in t.llm_calls if c.agent is None)
    assert [m["content"] for m in mended.messages[:2]] == ["be brief", agents.SUMMARY["content"]]
    assert mended.messages[2:] == [{"role": "assistant", "content": "", "tool_calls": started.choices[0].message["tool_calls"]}, agents.DELEGATED[1]]  # fmt: skip
    assert (asked.source_time, asked.duration, mended.prompt_tokens) == (1_772_359_201_500_000_000, 1_500_000_000, 40)
    thought = next(m for m in started.messages if m["role"] == "assistant")
    assert (thought["reasoning_content"], "which knot" in json.dumps(thought["content"])) == ("which knot", False)
    (found,) = (c for c in t.llm_calls if c.agent == "scout-a01")
    (step,) = (r for r in t.records if r.id == found.parent)
    assert step.parent == next(a.id for a in t.actions if a.name == "Agent")
    assert (found.text, t.actions[0].duration) == ("a bowline", 1_500_000_000)
    assert [n.name for n in t.notes if n.name.startswith("Comp")] == ["CompactionBegin", "CompactionEnd"]


def test_a_copilot_session_of_a_newer_version(store: odograph.Store, tmp_path: Path) -> None:
    """What a call used may stand before its answer, and the system prompt behind what the person said; the prompt begins with it.
    A command's exit code says whether it went well."""
    (path := tmp_path / "events.jsonl").write_text("".join(json.dumps(v) + "\n" for v in agents.COPILOT_NEW))
    store.import_sessions(path)
    (t,) = store.trajectories()
    asked, mended = t.llm_calls
    assert (asked.prompt_tokens, asked.completion_tokens, asked.duration, asked.finish_reason) == (
        15,
        5,
        250_000_000,
        "tool_calls",
    )
    assert [m["role"] for m in mended.messages] == ["system", "user", "assistant", "tool"]
    assert (mended.prompt_tokens, t.actions[0].ok) == (None, False)


def test_a_cline_session_is_its_folder(store: odograph.Store, tmp_path: Path) -> None:
    """A sub-agent of Cline's command line belongs to the call that started it, with the system prompt that the call gave; the
    sub-agent's file leads to the same session. What the program showed in the model's place is no call."""
    folder = agents.cline_cli(tmp_path)
    assert store.import_sessions(tmp_path).imported == 1
    assert store.import_sessions(folder / "agent_7.messages.json").skipped == 1
    (t,) = store.trajectories()
    (found,) = (c for c in t.llm_calls if c.agent == "agent_7")
    (step,) = (r for r in t.records if r.id == found.parent)
    assert step.parent == next(a.id for a in t.actions if a.name == "spawn_agent")
    assert [m["content"] for m in found.messages] == ["you help", "Find a knot"]
    assert (t.task, t.metadata["source"]["status"]) == ("Mend the net", "completed")
    assert [c.text for c in t.llm_calls if c.text] == ["a bowline", "Mended"]
    assert [n.name for n in t.notes] == ["error"]


def test_a_session_of_kimi_code(store: odograph.Store, tmp_path: Path) -> None:
    """A wire tells what the model was sent: results in the order of the calls, with what the program writes around them, and what
    came meanwhile behind; without a prompt that was taken back, and after a compaction with the person's messages as one. A fork
    goes on from there, and what it shares is the parent's."""
    folder = agents.kimi_code(tmp_path)
    agents.kimi_code_fork(tmp_path)
    assert store.import_sessions(tmp_path).imported == 2
    assert store.import_sessions(folder / "agents" / "agent-0" / "wire.jsonl").skipped == 1
    t, fork = sorted(store.trajectories(), key=lambda t: len(t.llm_calls), reverse=True)
    looked, delegated, mended, wrong, oar, thanks = (c for c in t.llm_calls if c.agent is None)
    begun = ["be brief", "Mend the net", "<system-reminder>the date</system-reminder>"]
    results = [
        "Wall time: 0.250 seconds\n<system>ERROR: Tool execution failed.</system>\ntwine",
        "holes\n<system>one line</system>",
    ]
    assert [m["content"] for m in delegated.messages] == [*begun, "I look", *results, "a hook"]
    assert delegated.messages[3]["reasoning_content"] == "which knot"
    assert [a.result for a in t.actions] == ["twine", "holes", "a bowline"]
    assert [t.actions[0].duration, looked.duration] == [250_000_000, 250_000_000]
    assert [f["function"]["name"] for f in looked.request["tools"]] == ["Bash"]
    before = [
        *delegated.messages,
        delegated.response,
        {"role": "tool", "tool_call_id": "c3", "content": "Wall time: 1.000 seconds\na bowline"},
    ]
    assert mended.messages == before
    assert [m["content"] for m in wrong.messages[len(before) :]] == ["Mended", "and the boat"]
    assert [m["content"] for m in oar.messages[len(before) :]] == ["Mended", "and the oar"]
    assert [m["content"] for m in thanks.messages] == ["be brief", "Mend the net\n\nand the oar", "a net was mended", "thanks"]
    (found,) = (c for c in t.llm_calls if c.agent == "explore-agent-0")
    (step,) = (r for r in t.records if r.id == found.parent)
    assert step.parent == next(a.id for a in t.actions if a.name == "Agent")
    (sailed,) = fork.llm_calls
    assert (fork.start.fork.trajectory, fork.start.fork.step, fork.task) == (t.id, 3, "Mend the net")
    assert [m["content"] for m in sailed.messages[len(before) :]] == ["Mended", "and the sail"]


def test_a_goose_session_that_was_compacted(store: odograph.Store, tmp_path: Path) -> None:
    """One reply is one call, although it is kept as several messages: the same thoughts or the times of the responses show that it
    asked for two tools. The model was sent what is its own of a result. A compaction changes later prompts alone."""
    store.import_sessions(agents.goose(tmp_path / "sessions.db", agents.goose_talk(21)))
    (t,) = store.trajectories()
    both, again, mended, oar, thanks = t.llm_calls
    assert [(a.step, a.arguments["command"], a.result) for a in t.actions] == [
        (0, "ls", "twine"), (0, "pwd", "/w"), (1, "a", "A"), (1, "b", "B"),
    ]  # fmt: skip
    assert "TWINE" in json.dumps(t.actions[0].extra["shown"])
    assert (both.text, both.reasoning) == ("I look", "which knot")
    roles = ["user", "assistant", "tool", "assistant", "tool"]
    assert [m["role"] for m in again.messages] == roles
    assert [m["role"] for m in mended.messages] == [*roles, *roles[1:]]
    compacted = ["a net was mended", "Your context was compacted.", "and the oar"]
    assert [m["content"] for m in oar.messages] == compacted
    assert [m["content"] for m in thanks.messages] == [*compacted, "The oar, too", "thanks"]
    assert [n.name for n in t.notes] == ["compaction", "shown", "shown"]
    assert [s.observation for s in t.steps if s.index == 3] == ["and the oar"]


def test_what_a_compaction_left_of_a_cline_session(store: odograph.Store, tmp_path: Path) -> None:
    """Cline's command line keeps all messages, and beside them what is sent in place of the first ones."""
    folder = agents.cline_cli(tmp_path)
    kept = [{"role": "user", "content": [agents.said("a net was mended")]}]
    state = {"version": 1, "updated_at": agents.T.format(5), "source_message_count": 6, "messages": kept}
    (folder / f"{folder.name}.compaction.json").write_text(json.dumps(state))
    store.import_sessions(folder)
    (t,) = store.trajectories()
    _, delegated, mended = (c for c in t.llm_calls if c.agent is None)
    assert [m["content"] for m in delegated.messages[:2]] == ["be brief", "Mend the net"]
    assert [m["content"] for m in mended.messages] == ["be brief", "a net was mended"]
    assert [n.name for n in t.notes] == ["error", "compaction"]


def copilot(*told: tuple[str, dict[str, Any]]) -> str:
    """Lines of Copilot's events, each with the number of the event as its id."""
    start = ("session.start", {"sessionId": "5e55104e-0001", "producer": "copilot-agent", "copilotVersion": "1.0"})
    events = [
        {"type": kind, "id": str(n), "timestamp": agents.T.format(n), "parentId": None, "data": data}
        for n, (kind, data) in enumerate((start, *told))
    ]
    return "".join(json.dumps(event) + "\n" for event in events)


def test_a_copilot_session_that_was_rewound(store: odograph.Store, tmp_path: Path) -> None:
    """A rewind takes an event back and all behind it; a cleared context and a compaction leave the system prompt."""
    talk = [
        *(("user.message", {"content": "one"}), ("assistant.message", {"content": "A1"})),
        *(("user.message", {"content": "two"}), ("assistant.message", {"content": "A2"})),
        ("session.snapshot_rewind", {"upToEventId": "4", "eventsRemoved": 2}),
        *(("user.message", {"content": "three"}), ("assistant.message", {"content": "A3"})),
        ("session.compaction_complete", {"success": True, "summaryContent": "so far"}),
        *(("user.message", {"content": "four"}), ("assistant.message", {"content": "A4"})),
        ("session.context_cleared", {"messagesCleared": 3}),
        *(("user.message", {"content": "five"}), ("assistant.message", {"content": "A5"})),
    ]
    (path := tmp_path / "events.jsonl").write_text(copilot(("system.message", {"content": "be brief"}), *talk))
    store.import_sessions(path)
    (t,) = store.trajectories()
    left = t.llm_calls[3].messages[1]["content"]
    assert [words in left for words in ("one", "two", "three", "so far")] == [True, False, True, True]
    assert [[m["content"] for m in c.messages] for c in t.llm_calls] == [
        ["be brief", "one"],
        ["be brief", "one", "A1", "two"],
        ["be brief", "one", "A1", "three"],
        ["be brief", left, "four"],
        ["be brief", "five"],
    ]


def test_an_image_that_a_tool_of_opencode_read(store: odograph.Store, tmp_path: Path) -> None:
    """What a tool attached is sent with its text."""
    image = {"type": "file", "mime": "image/png", "url": "data:image/png;base64,AAAA"}
    path = agents.opencode(tmp_path / "opencode.db")
    with sqlite3.connect(path) as database:
        (data,) = database.execute("select data from part where id = 'm2-1'").fetchone()
        tool = json.loads(data)
        tool["state"]["attachments"] = [{"id": "p", "messageID": "m2", **image}]
        database.execute("update part set data = ? where id = 'm2-1'", (json.dumps(tool),))
    store.import_sessions(path)
    t = next(t for t in store.trajectories() if t.task == "Mend the net")
    sent = [{"type": "text", "text": "twine"}, image]
    assert t.actions[0].result == sent
    assert next(m for m in t.llm_calls[1].request["messages"] if m["role"] == "tool")["content"] == sent


@pytest.mark.parametrize(
    ("said", "ok", "seconds"),
    [
        ("aborted by user after 1.5s", False, 1.5),
        ("Wall time: 1.5 seconds\naborted by user", False, 1.5),
        ("exec command rejected by user", False, None),
        ("patch rejected by user", False, None),
        ("exec_command failed for `/bin/x`: no such file", False, None),
        ("apply_patch verification failed: no such line", False, None),
        ("failed to parse function arguments: EOF", False, None),
        ("unsupported call: dig", False, None),
        ("command timed out after 10000 milliseconds\nhalf", False, None),
        ([{"type": "input_text", "text": "Script failed\nWall time 1.5 seconds\nOutput:\n"}, {"type": "input_text", "text": "boom"}], False, 1.5),
        ([{"type": "input_text", "text": "Script completed\nWall time 0.5 seconds\nOutput:\n"}], True, 0.5),
        ([{"type": "input_text", "text": "Script running with cell ID 3\nWall time 1.0 seconds\nOutput:\n"}], None, 1.0),
        ("the exec command rejected by user yesterday", None, None),
    ],
)  # fmt: skip
def test_a_tool_of_codex_that_did_not_end_with_a_code(
    store: odograph.Store, tmp_path: Path, said: Any, ok: bool | None, seconds: float | None
) -> None:
    """What the program writes in the place of a result, or above it, says how it went, and how long the person waited."""
    payloads = [
        ("session_meta", {"id": "019d0000-0000-7000-8000-0000000000aa", "timestamp": agents.T.format(0), "cwd": "/w"}),
        ("response_item", {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Mend"}]}),
        ("response_item", {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "c1"}),
        ("response_item", {"type": "function_call_output", "call_id": "c1", "output": said}),
    ]
    lines_ = [{"timestamp": agents.T.format(n), "type": kind, "payload": payload} for n, (kind, payload) in enumerate(payloads)]
    (tmp_path / "rollout-1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines_))
    store.import_sessions(tmp_path)
    (t,) = store.trajectories()
    took = None if seconds is None else round(seconds * 1e9)
    assert (t.actions[0].ok, t.actions[0].duration, t.actions[0].result) == (ok, took, said)


def test_a_kimi_wire_alone_is_a_session(store: odograph.Store, tmp_path: Path) -> None:
    """Where the contexts are gone, the wire tells what was said and done."""
    folder = agents.kimi(tmp_path)
    (folder / "context.jsonl").unlink()
    (folder / "context_1.jsonl").unlink()
    store.import_sessions(folder / "wire.jsonl")
    (t,) = store.trajectories()
    assert (t.task, [a.name for a in t.actions], t.llm_calls[-1].text) == ("Mend the net", ["Shell", "Agent"], "Mended")


def test_tools_that_end_before_the_reply_does(store: odograph.Store, tmp_path: Path) -> None:
    """Kimi runs a tool while the reply still comes: the next call of the reply and its usage stand behind the first result. They
    are one reply, which ended when it last said something."""
    values = [
        *agents.KIMI_WIRE[:3],
        agents.wire(2, "ToolCall", **agents.shell("c1", command="ls")),
        agents.wire(3, "ToolResult", **agents.outcome("c1", "twine")),
        agents.wire(4, "ToolCall", **agents.shell("c2", command="pwd")),
        agents.wire(5, "ToolResult", **agents.outcome("c2", "")),
        agents.wire(9, "StatusUpdate", token_usage={"input_other": 5, "output": 2}),
    ]
    (path := tmp_path / "wire.jsonl").write_text("".join(json.dumps(v) + "\n" for v in values))
    store.import_sessions(path)
    (t,) = store.trajectories()
    (asked,) = t.llm_calls
    assert (asked.prompt_tokens, asked.completion_tokens, asked.duration) == (5, 2, 2_500_000_000)
    assert [a.result for a in t.actions] == [[agents.said("twine")], [agents.said("<system>Tool output is empty.</system>")]]


def test_a_cursor_chat_and_its_transcript_are_one_session(store: odograph.Store, tmp_path: Path) -> None:
    """The transcript of a chat that is there adds nothing, and a summary that takes the place of messages changes no earlier call.
    The key of the chat is not kept."""
    home = tmp_path / ".cursor"
    (chats := home / "chats" / "w" / "c4a7-0001").mkdir(parents=True)
    (told := home / "projects" / "w" / "agent-transcripts" / "c4a7-0001").mkdir(parents=True)
    agents.cursor_chat(chats / "store.db")
    (told / "c4a7-0001.jsonl").write_text("".join(json.dumps(v) + "\n" for v in agents.CURSOR))
    report = store.import_sessions(home)
    assert (report.imported, report.skipped, report.failed) == (1, 1, [])
    (t,) = store.trajectories()
    assert "blobEncryptionKey" not in json.dumps(t.to_dict())
    before = {c.id: [m.get("content") for m in c.messages] for c in t.llm_calls}
    agents.cursor_chat(chats / "store.db", [agents.STORE[0], {"role": "user", "content": "so far: mended"}, agents.STORE[-1], {"role": "assistant", "content": "Sailed"}])  # fmt: skip
    store.import_sessions(home)
    (t,) = store.trajectories()
    after = {c.id: [m.get("content") for m in c.messages] for c in t.llm_calls}
    assert after.items() > before.items()
    assert ["be brief", "so far: mended", "And the sail"] in after.values()


def test_a_sub_agents_transcript_belongs_to_its_call(store: odograph.Store, tmp_path: Path) -> None:
    """Cursor's transcripts of sub-agents are in the session that started them, whichever of the files is named."""
    (folder := tmp_path / "cu1" / "subagents").mkdir(parents=True)
    task = {"type": "tool_use", "name": "Task", "input": {"prompt": "Find a knot", "subagent_type": "scout"}}
    started = [agents.CURSOR[0], {"role": "assistant", "message": {"content": [task]}}, agents.CURSOR[2]]
    found = [{"role": "user", "message": {"content": [agents.said("<user_query>\nFind a knot\n</user_query>")]}}, {"role": "assistant", "message": {"content": [agents.said("a bowline")]}}]  # fmt: skip
    for path, values in ((tmp_path / "cu1" / "cu1.jsonl", started), (folder / "su1.jsonl", found)):
        path.write_text("".join(json.dumps(v) + "\n" for v in values))
    assert store.import_sessions(folder / "su1.jsonl").imported == 1
    assert store.import_sessions(tmp_path).imported == 0
    (t,) = store.trajectories()
    (call,) = (c for c in t.llm_calls if c.agent == "scout-su1")
    (step,) = (r for r in t.records if r.id == call.parent)
    assert (t.task, step.parent) == ("Mend the net", t.actions[0].id)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(WHOLE)), st.randoms(use_true_random=False), JUNK)
def test_odd_fields_never_crash(tmp_path_factory: pytest.TempPathFactory, name: str, rng: random.Random, junk: Any) -> None:
    """Any field may be missing or of any type: the session is imported as far as it goes, or refused with a sentence."""
    path = tmp_path_factory.mktemp("odd") / WHOLE[name][0]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(spoiled(WHOLE[name][1](99), junk, rng)))
    with odograph.open("memory:") as store:
        report = store.import_sessions(path, format=name)
        assert all("while reading it" not in f["error"] for f in report.failed), report.failed
        for trajectory in store.trajectories():
            json.dumps(trajectory.to_dict())


def test_databases_and_histories_that_grow(tmp_path: Path) -> None:
    """A database that is imported while its program writes, and a history of text, end as one import of the whole."""
    for kind in ("opencode.db", ".aider.chat.history.md"):
        path = tmp_path / kind
        with odograph.open("memory:") as store, odograph.open("memory:") as fresh:
            for size in [*range(8), 99]:
                if kind == "opencode.db":
                    agents.opencode(path, size)
                else:
                    at = [n for n, c in enumerate(AIDER) if AIDER[n : n + 2] == "\n\n"]
                    path.write_text(AIDER[: at[min(size * 2, len(at) - 1)] + 1] if size < 99 else AIDER)
                store.import_sessions(path)
            fresh.import_sessions(path)
            assert store.import_sessions(path).imported == 0
            assert content(store) == content(fresh)
            assert len(list(fresh.trajectories())) == 2


def test_opencodes_sub_agents_and_compactions(store: odograph.Store, tmp_path: Path) -> None:
    """A sub-agent's session refers to its parent; after a compaction the prompt is the summary."""
    path = agents.opencode(tmp_path / "opencode.db")
    store.import_sessions(path)
    parent, child = (next(t for t in store.trajectories() if t.task == task) for task in ("Mend the net", "find twine"))
    assert child.start.fork.trajectory == parent.id
    assert parent.llm_calls[-1].messages == [{"role": "assistant", "content": "so far: twine"}]
    assert sqlite3.connect(path).execute("select count(*) from message").fetchone() == (6,)


def request_of(at: int, **figures: Any) -> dict[str, Any]:
    """What Cline and Roo show of a request."""
    return {"ts": agents.MS + at, "type": "say", "say": "api_req_started", "text": json.dumps({"request": "x", **figures})}


def test_clines_figures_stand_beside_the_history(store: odograph.Store, tmp_path: Path) -> None:
    """Where messages have no figures, those of `ui_messages.json` are the calls': of the last request before each. A request
    without a reply is a note. What Cline left out of the history is in no later prompt."""
    history = [{k: v for k, v in m.items() if k not in ("metrics", "modelInfo")} for m in agents.CLINE]
    history[3:3] = [
        {"role": "assistant", "ts": agents.MS + 3400, "content": [agents.use("c2", "execute_command", command="pwd")]},
        {"role": "user", "ts": agents.MS + 3500, "content": [agents.result("c2", "/w"), agents.said("go on")]},
    ]
    figures = [(1500, 3), (2500, 4), (3100, 5), (3800, 6)]
    shown = [request_of(at, tokensIn=n, tokensOut=1, cacheReads=10, cost=0.25) for at, n in figures]
    shown[3]["conversationHistoryDeletedRange"] = [2, 3]
    (tmp_path / "api_conversation_history.json").write_text(json.dumps(history))
    (tmp_path / "ui_messages.json").write_text(json.dumps(shown))
    report = store.import_sessions(tmp_path)
    assert (report.imported, report.unrecognised) == (1, [])
    (t,) = store.trajectories()
    assert [(c.prompt_tokens, c.cost) for c in t.llm_calls] == [(13, 0.25), (15, 0.25), (16, 0.25)]
    assert [(n.name, n.data["tokensIn"]) for n in t.notes] == [("api_req_failed", 4)]
    assert [m["content"] for m in t.llm_calls[-1].request["messages"]] == [
        history[0]["content"],
        history[1]["content"],
        [agents.said("go on")],
    ]


def test_what_roo_left_out_of_a_history(store: odograph.Store, tmp_path: Path) -> None:
    """A truncation and a condensation change later prompts alone; a thought that Roo keeps for people is not sent again; Roo counts
    cached tokens in. A sub-task refers to its parent, and the call that started it to the sub-task."""
    storage = tmp_path / "rooveterinaryinc.roo-cline" / "tasks"
    environment = agents.said("<environment_details><model>m1</model></environment_details>")

    def message(role: str, at: int, *content: Any, **more: Any) -> dict[str, Any]:
        return {"role": role, "ts": agents.MS + at, "content": list(content), **more}

    history = [
        message("user", 1000, agents.said("<user_message>\nMend the net\n</user_message>"), environment, condenseParent="k"),
        message("assistant", 2000, {"type": "reasoning", "text": "which knot", "summary": []}, agents.use("c1", "execute_command", command="ls"), condenseParent="k", truncationParent="h"),
        message("user", 3000, agents.result("c1", "twine"), condenseParent="k", truncationParent="h"),
        {"role": "user", "ts": agents.MS + 3999, "content": "[2 messages hidden]", "isTruncationMarker": True, "truncationId": "h", "condenseParent": "k"},
        message("assistant", 4000, agents.use("c2", "new_task", message="Find a knot"), condenseParent="k"),
        message("user", 5000, agents.result("c2", "Subtask 0192-b2 completed.\n\nResult:\na bowline"), condenseParent="k"),
        message("assistant", 6000, agents.said("Mended"), condenseParent="k"),
        message("user", 7000, agents.said("a net was mended"), isSummary=True, condenseId="k"),
        message("user", 8000, agents.said("and the oar")),
        message("assistant", 9000, agents.said("Failure: I did not provide a response.")),
        message("user", 9500, agents.said("again")),
        message("assistant", 9900, agents.said("Mended")),
    ]  # fmt: skip
    shown = [
        request_of(1500, apiProtocol="anthropic", tokensIn=30, tokensOut=2, cacheReads=20, cacheWrites=5),
        request_of(3500, apiProtocol="anthropic", tokensIn=3, tokensOut=2, cacheReads=20, cacheWrites=5),
        {"ts": agents.MS + 5500, "say": "sliding_window_truncation", "contextTruncation": {"truncationId": "h"}},
        request_of(5600, apiProtocol="openai", tokensIn=9, tokensOut=2, cacheReads=20),
        request_of(8500, cancelReason="streaming_failed"),
        request_of(9700, apiProtocol="openai", tokensIn=9, tokensOut=2),
    ]
    for name, values in (("0192-a1", history), ("0192-b2", [message("user", 4100, agents.said("Find a knot"))])):
        (storage / name).mkdir(parents=True)
        (storage / name / "api_conversation_history.json").write_text(json.dumps(values))
    (storage / "0192-a1" / "ui_messages.json").write_text(json.dumps(shown))
    (storage / "0192-b2" / "history_item.json").write_text(
        json.dumps({"id": "0192-b2", "parentTaskId": "0192-a1", "mode": "code"})
    )
    report = store.import_sessions(storage)
    assert (report.imported, report.unrecognised) == (2, [])
    t, child = sorted(store.trajectories(), key=lambda t: len(t.llm_calls), reverse=True)
    assert (t.agent, t.task, t.model) == ("roo-code", "Mend the net", "m1")
    looked, delegated, mended, oar = t.llm_calls
    assert [c.prompt_tokens for c in t.llm_calls] == [30, 28, 9, 9]
    assert looked.reasoning == "which knot"
    assert delegated.request["messages"][1]["content"] == [agents.use("c1", "execute_command", command="ls")]
    contents = [m["content"] for m in mended.request["messages"]]
    assert contents[0] == history[0]["content"] and contents[1:] == [
        "[2 messages hidden]",
        history[4]["content"],
        history[5]["content"],
    ]
    assert [m["content"][0]["text"] for m in oar.request["messages"]] == [
        "a net was mended",
        "and the oar",
        "Failure: I did not provide a response.",
        "again",
    ]
    assert (child.start.fork.trajectory, t.actions[1].extra["trajectory"]) == (t.id, child.id)
    assert [n.name for n in t.notes] == ["condense", "api_req_failed"]


def test_rows_for_training(store: odograph.Store, tmp_path: Path) -> None:
    """Token ids, masks, logprobs, scores and groups of Atropos, ART and agent-lightning; pairs of preference rows."""
    for name in ("atropos", "art", "agent-lightning", "preferences"):
        assert store.import_sessions(lines(tmp_path, name)).failed == []
    found: dict[str, list[Any]] = {}
    for t in store.trajectories():
        found.setdefault(t.metadata["source"]["format"], []).append(t)
    first, second, rendered, with_tools = found["atropos"]
    assert [(a.name, a.arguments, a.result) for a in with_tools.actions] == [("drop", {"m": 3}, "three fathoms")]
    assert [(c.prompt_token_ids, c.choices[0].token_ids, c.choices[0].logprobs) for c in first.llm_calls] == [
        ([1, 2], [3], [-0.1]),
        ([1, 2, 3, 4], [5], [-0.2]),
    ]
    assert (first.reward, second.reward, first.group == second.group, second.llm_calls[0].text) == (1.0, 0.0, True, "c")
    assert rendered.notes[0].data == {"text": "<|user|>q<|assistant|>a"} and rendered.llm_calls[0].choices[0].token_ids == [2]
    one, two, exchanged = found["art"]
    assert (one.reward, two.reward, one.group, two.group) == (1.0, 0.0, "s1", "s1")
    assert one.llm_calls[0].choices[0].token_ids == [7] and one.actions[0].result == "t" and one.rewards["turns"] == 1
    assert (exchanged.llm_calls[0].prompt_tokens, exchanged.llm_calls[0].text, exchanged.reward) == (3, "a", 0.5)
    rollout = found["agent-lightning"][0]
    plain, streamed = rollout.llm_calls
    assert (plain.prompt_token_ids, plain.choices[0].token_ids, plain.prompt_tokens, plain.completion_tokens) == (
        [1, 2, 3],
        [7, 8],
        3,
        2,
    )
    assert (streamed.text, len(streamed.events), rollout.reward, rollout.group, rollout.status) == (
        "ab",
        2,
        0.5,
        "1-0",
        "completed",
    )
    pairs = found["preferences"]
    assert [(t.llm_calls[0].messages[-1]["content"], t.llm_calls[0].text, t.reward) for t in pairs] == [
        ("q", "good", 1.0), ("q", "bad", 0.0), ("q", "good", 1.0), ("q", "bad", 0.0), ("q", "good", 1.0), ("q", "bad", 0.0), ("q", "fine", 1.0),
    ]  # fmt: skip
    assert pairs[0].rewards["score"] == 8.0 and pairs[0].group == pairs[1].group != pairs[2].group


def test_a_database_that_is_damaged_or_foreign(store: odograph.Store, tmp_path: Path) -> None:
    """A database of another program is passed over, a damaged one fails with a sentence, and neither is changed."""
    foreign = tmp_path / "x.db"
    with sqlite3.connect(foreign) as database:
        database.execute("create table session (id text)")
    damaged = tmp_path / "opencode.db"
    agents.opencode(damaged)
    data = bytearray(damaged.read_bytes())
    data[5000:9000] = b"\xff" * 4000
    damaged.write_bytes(bytes(data))
    report = store.import_sessions(tmp_path)
    assert str(foreign) in report.unrecognised
    assert all("Traceback" not in f["error"] and "while reading it" not in f["error"] for f in report.failed)
    assert damaged.read_bytes() == bytes(data)


#: What each agent calls the folder of its own, and where it keeps its sessions there.
ELSEWHERE = {
    "XDG_DATA_HOME": ("amp", "amp/threads"),
    "XDG_CONFIG_HOME": ("roo-code", "Code/User/globalStorage/rooveterinaryinc.roo-cline/tasks"),
    "CLAUDE_CONFIG_DIR": ("claude-code", "projects"),
    "CODEX_HOME": ("codex", "sessions"),
    "GEMINI_CLI_HOME": ("gemini-cli", ".gemini/tmp"),
    "PI_CODING_AGENT_DIR": ("pi", "sessions"),
    "OPENCLAW_STATE_DIR": ("openclaw", "agents"),
    "GOOSE_PATH_ROOT": ("goose", "data/sessions"),
    "KIMI_SHARE_DIR": ("kimi", "sessions"),
    "KIMI_CODE_HOME": ("kimi-code", "sessions"),
    "CONTINUE_GLOBAL_DIR": ("continue", "sessions"),
    "COPILOT_HOME": ("copilot", "session-state"),
}


def test_sessions_that_lie_elsewhere_are_found(tmp_path: Path, monkeypatch: Any) -> None:
    """A folder that an environment variable gives an agent is looked at, and what editors keep where they work from elsewhere."""
    for name, (agent, place) in ELSEWHERE.items():
        (tmp_path / name / place).mkdir(parents=True)
        (tmp_path / name / place / "s.jsonl").write_text(agent)
        monkeypatch.setenv(name, str(tmp_path / name))
    remote = tmp_path / "home/.vscode-server/data/User/globalStorage/saoudrizwan.claude-dev/tasks"
    remote.mkdir(parents=True)
    (remote / "s.json").write_text("cline")
    found = {(p.agent, p.path) for p in places(tmp_path / "home", tmp_path)}
    assert found == {("cline", remote), *((agent, tmp_path / name / place) for name, (agent, place) in ELSEWHERE.items())}


def test_what_is_on_the_machine(store: odograph.Store, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """`odograph import` without a path lists the sessions of the agents of this machine, and imports them after `--yes`."""
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["--store", str(store.root), "import"]) == 1
    assert "no sessions of an agent" in capsys.readouterr().err
    for name, place in (
        ("copilot", ".copilot/session-state/cp"),
        ("droid", ".factory/sessions/w"),
        ("goose", ".local/share/goose/sessions"),
    ):
        (home / place).mkdir(parents=True)
        shutil.move(lines(tmp_path, name), home / place)
    (home / ".local/share/opencode").mkdir(parents=True)
    agents.opencode(home / ".local/share/opencode/opencode.db")
    (home / ".factory/sessions/w/readme.txt").write_text("not a session")
    (home / ".config/Cursor/User/globalStorage").mkdir(parents=True)
    with sqlite3.connect(home / ".config/Cursor/User/globalStorage/state.vscdb") as database:  # nobody has chatted yet
        database.execute("create table cursorDiskKV (key text, value blob)")
    assert main(["--store", str(store.root), "import"]) == 2
    out, err = capsys.readouterr()
    assert {line.split()[0] for line in out.splitlines()} == {"agent", "copilot", "opencode", "goose", "droid", "cursor"}
    assert "give --yes to import these sessions" in err
    assert main(["--store", str(store.root), "import", "--json"]) == 0
    assert {p["agent"] for p in json.loads(capsys.readouterr().out)["found"]} == {
        "copilot",
        "opencode",
        "goose",
        "droid",
        "cursor",
    }
    assert not list(store.trajectories())
    assert main(["--store", str(store.root), "import", "--yes", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["imported"], report["failed"]) == (5, [])
    assert {t["format"] for t in report["trajectories"]} == {"copilot", "droid", "goose", "opencode"}
