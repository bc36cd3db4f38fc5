"""What an import rebuilds, compared with the raw file: every text, argument, result, order and time; nothing invented."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import odograph
from odograph import importers
from odograph.streams import Seen

from . import agents, scaffold
from . import test_growing as growing
from . import test_sessions as sessions
from .raw import MODEL, PERSON, READERS, RESULT, THOUGHT, TOOL, Said, call, inner_texts, micros, texts, values
from .test_mini_swe_agent import calls_file
from .test_tau2_bench import results as simulations
from .test_tau_bench import episode

SCRUBBED = "[trimmed for fixture]"  #: stands for every text, id and time of one sample: nothing there can be told apart
#: Keys of each format under which a text stands that people were shown, and that says again what another says.
SHOWN = {
    "inspect": ("view", "traceback_ansi", "changes", "attachments", "state", "events_data", "results", "sandbox"),
    "openhands": ("message",),
}
MARK = re.compile("^(#### |> |# aider chat started at )")  #: what aider puts before a line, for whose it is
#: What OpenHands and Kimi Code write around a tool's output when it is sent, and no file holds.
AROUND = re.compile(
    r"\[(?:Current working directory: [^]]*|Python interpreter: [^]]*|Command finished with exit code -?\d+|An error occurred during execution\.)\]"
    r"|^Action rejected: "
    r"|^The conversation history has been summarized [^\n]*\n\nYou were originally [^\n]*|</?(?:user_message|summary)>"
    r"|^Here is a summary of the prior context:$"
    r"|\AWall time: [\d.]+ seconds\n(?:<system>ERROR: Tool execution failed\.</system>\n)?",
    re.MULTILINE,
)
WORDS = ("context", "assistant", "user", "system", "tool", "function", "text", "image_url")  #: words of a message's shape


def strings(value: Any) -> Iterator[str]:
    """All texts of a value, and those in a JSON text."""
    if isinstance(value, str):
        yield value
        if value[:1] in ("{", "["):
            try:
                yield from strings(json.loads(value))
            except (ValueError, RecursionError):
                yield from literals(value)
        elif "\n[" in value:
            yield from literals(value.partition("\n")[2])
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def literals(value: str) -> Iterator[str]:
    """The texts of a text in Python's notation."""
    with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        yield from strings(ast.literal_eval(value))


class Rebuilt:
    """What the trajectories of a store hold: what was said, by agent, and all their texts."""

    def __init__(self, store: odograph.Store) -> None:
        self.said: dict[tuple[str, str | None], list[Said]] = defaultdict(list)
        self.texts: set[str] = set()
        #: When the replies ended that began at a time: each part of a reply has a time of its own in some sources.
        self.ended: dict[int | None, int] = {}
        #: Each text that a tool gave, with the call that it is of.
        self.gave: set[tuple[str, str]] = set()
        #: The texts that the model was sent and said, and that tools were given and gave.
        self.seen: set[str] = set()
        for t in store.trajectories():
            calls, seen = {c.id: c for c in t.llm_calls}, Seen()
            for record in t.records:
                if record.id in calls:
                    self._call(t.id, calls[record.id], seen)
                else:
                    self._record(t.id, record)

    def _call(self, of: str, c: Any, seen: Seen) -> None:
        sent, tools, params = c.news(seen)
        answers = [choice.message for choice in c.choices]
        self.seen |= {*strings(sent), *strings(answers)}
        more = [c.reasoning, c.extra, c.error, c.usage, c.response, tools, params, c.finish_reason]
        self.texts |= {*self.seen, *strings(more)}
        when = None if c.source_time is None else c.source_time // 1000
        self.ended[when] = max(self.ended.get(when, 0), micros((c.extra or {}).get("ended")) or 0)
        said = self.said[of, c.agent]
        said += [Said(THOUGHT, c.reasoning, when)] if c.reasoning else []
        if c.purpose in ("act", "user"):  # not what a judge said
            said += [Said(MODEL, x, when) for m in answers for x in texts(m.get("content"))]

    def _record(self, of: str, record: Any) -> None:
        kind, said = record.__struct_config__.tag, self.said[of, record.agent]
        when = None if record.source_time is None else record.source_time // 1000
        self.texts |= set(strings(msgspec.to_builtins(record)))
        if kind == "action":
            said.append(Said(TOOL, call(record.name, record.arguments), when))
            self.gave |= {(said[-1].text, x.strip()) for x in inner_texts(record.result)}
            said += [Said(RESULT, x, None, record.tool_call_id) for x in results(record.result)]
            self.seen |= set(strings([record.arguments, record.result]))
        elif kind == "step":
            times = (record.extra or {}).get("times") or []
            seen = record.observation if len(times) > 1 else [record.observation]
            for n, content in enumerate(seen):
                at = micros(times[n]) if n < len(times) else when
                said += [Said(PERSON, x, at) for x in observed(content)]
            self.seen |= set(strings(record.observation))
        elif kind == "note" and record.name == "result_without_call":
            id = record.data.get("call_id", record.data.get("tool_use_id"))
            said += [Said(RESULT, x, None, id) for x in texts(record.data.get("output", record.data.get("content")))]
        elif kind == "note" and record.name == "observation" and isinstance(record.data, dict):
            said += [Said(RESULT, x) for x in texts(record.data.get("content"))]
        elif kind == "note" and record.name == "unanswered":
            times = (record.extra or {}).get("times") or [m.get("timestamp") for m in record.data["messages"]]
            for message, time in zip(record.data["messages"], times, strict=True):
                at = micros(time) or when
                said += [Said(PERSON, x, at) for x in texts(message.get("content")) if message.get("role") != "system"]


def results(value: Any) -> list[str]:
    """The texts of a tool's result: Gemini's stand in function responses."""
    parts = (
        [p["functionResponse"]["response"].get("output") for p in value if "functionResponse" in p]
        if isinstance(value, list) and all(isinstance(p, dict) for p in value)
        else []
    )
    return [x for p in parts for x in texts(p)] if parts else texts(value)


def observed(value: Any) -> list[str]:
    """The texts of an observation: one message's content, or a list of several."""
    if isinstance(value, list) and not all(isinstance(v, dict) for v in value):
        return [x for v in value for x in texts(v)]
    return texts(value)


def compared(path: Path, name: str) -> list[str]:
    """How an import of a file differs from the file."""
    with odograph.open("memory:") as store:
        report = store.import_sessions(path, format=name)
        assert not report.failed, report.failed
        ours = Rebuilt(store)
    found = values(path)
    raw = list(READERS[name](found))
    leaves = Counter((MARK.sub("", s) if name == "aider" else s).strip() for s in strings(found))
    everything = "\n".join(ours.texts)
    told = content_of(found, name) if name != "spans" else ()  # frameworks tell of a call again in the spans around the call
    wrong = [f"lost: {t[:90]!r}" for t in told if t not in ours.texts and t.strip() not in everything]
    rebuilt = [s for said in ours.said.values() for s in said]
    for kind in (MODEL, TOOL) if name == "spans" else (MODEL, TOOL, RESULT):  # nothing lost, twice, or under another role
        theirs, mine = (Counter(s.text.strip() for s in said if s.kind == kind) for said in (raw, rebuilt))
        if name == "spans":  # several instrumentations tell of one call
            theirs, mine = Counter(set(theirs)), Counter(set(mine))
            ended = {(s.text.strip(), s.time) for s in raw if s.kind == MODEL}
            wrong += [
                f"time of {s.text[:60]!r}" for s in rebuilt if s.kind == kind == MODEL and (s.text.strip(), s.time) not in ended
            ]
        wrong += [f"lost {n} of {kind}: {x[:90]!r}" for x, n in (theirs - mine).items()]
        wrong += [f"{n} too many of {kind}: {x[:90]!r}" for x, n in (mine - theirs).items()]
    kept = {s.strip() for s in ours.texts}
    wrong += [f"lost: {s.kind} {s.text[:90]!r}" for s in raw if s.kind != TOOL and s.text.strip() not in kept]
    asked = Counter(s.text.strip() for s in raw if s.kind == PERSON)
    persons = Counter(s.text.strip() for s in rebuilt if s.kind == PERSON)
    wrong += [
        f"{n} too many of {PERSON}: {x[:90]!r}"
        for x, n in (persons - (leaves | asked)).items()
        if x in leaves or not made_of(x, leaves)
    ]
    plain = (x for x in ours.seen if x not in WORDS and not made_of(x.strip(), leaves))
    wrong += [f"invented: {x[:90]!r}" for x in plain if not made_of(AROUND.sub("", x).strip(), leaves)]
    if name == "spans":  # the prompts repeat what the person said
        gave = {(str(s.of), s.text.strip()) for s in raw if s.kind == RESULT}
        wrong += [f"a result of another call: {x!r:.90}" for x in gave ^ ours.gave]
        return wrong + misplaced(ours, sorted(raw, key=lambda s: s.time or 0), (MODEL, TOOL))
    pairs = [Counter((s.of, s.text.strip()) for s in said if s.of and s.kind == RESULT) for said in (raw, rebuilt)]
    wrong += [f"a result of another call: {x!r:.90}" for x in pairs[0] - pairs[1]]
    return [w for w in wrong + misplaced(ours, raw) if SCRUBBED not in w]


def content_of(value: Any, name: str, at: tuple[str, ...] = ()) -> Iterator[str]:
    """Every text of a file that is more than a word, wherever it stands; without those that only repeat another for display."""
    if isinstance(value, str):
        inner = list(strings(value))[1:] if name in ("verifiers", "smolagents") else []
        typed = re.sub(r"</?user_input[^>]*>", "", value) if name == "cline-cli" else value  # the model is sent what is inside
        typed = MARK.sub("", typed) if name == "aider" else typed
        yield from (text for text in inner or [typed] if " " in text.strip() and micros(text) is None)
    elif isinstance(value, dict):
        for key, part in value.items():
            if key not in SHOWN.get(name, ()):
                yield from content_of(part, name, (*at, key))
    elif isinstance(value, list):
        for part in value:
            yield from content_of(part, name, at)


def made_of(text: str, leaves: Counter[str]) -> bool:
    """Whether a text is one of the file's, several in a row, or a value of the file's texts as JSON."""
    inner = list(strings(text))[1:]
    if inner and all(made_of(x.strip(), leaves) for x in inner):
        return True
    if text in leaves or not text or any(text in leaf for leaf in leaves):
        return True
    within = [leaf for leaf in leaves if leaf in text]
    for leaf in sorted(within, key=len, reverse=True):
        text = text.replace(leaf, "").strip()
    return not text


def misplaced(ours: Rebuilt, raw: list[Said], kinds: tuple[str, ...] = (MODEL, TOOL, PERSON)) -> list[str]:
    """What stands in another order than in the file, or at another time. Each agent's own order counts."""
    wrong: list[str] = []
    for kind in kinds:  # tools that run beside each other end in any order
        places: dict[str, list[int]] = defaultdict(list)
        for n, s in enumerate(raw):
            if s.kind == kind:
                places[s.text.strip()].append(n)
        for said in ours.said.values():
            last = -1
            for s in (s for s in said if s.kind == kind and s.text.strip() in places):
                left = [n for n in places[s.text.strip()] if n > last]
                if not left:
                    wrong.append(f"out of order: {kind} {s.text[:60]!r}")
                    continue
                last = next((n for n in left if _at(ours, s, raw[n])), left[0])
                if not _at(ours, s, raw[last]):
                    wrong.append(f"time of {kind} {s.text[:60]!r}: {s.time} in place of {raw[last].time}")
    return wrong


def _at(ours: Rebuilt, mine: Said, theirs: Said) -> bool:
    """Whether two times are one: to a millisecond, or within the reply that began then."""
    if theirs.time is None:
        return True
    if mine.time is None:
        return False
    late = max(mine.time, ours.ended.get(mine.time, 0)) if mine.kind == MODEL else mine.time
    return mine.time - 1000 <= theirs.time <= late + 1000


def lines(found: list[Any]) -> str:
    return "".join(json.dumps(value) + "\n" for value in found)


def asks(role: str, text: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": text, **more}


WIRE = {"choices": [{"index": 0, "message": asks("assistant", "I count the buoys")}]}
COUNTED = {"choices": [{"message": asks("assistant", "I count the buoys"), "stop_reason": "stop"}]}
#: An Inspect log of 2024: contents apart, events inside of the tool call that they are of.
OLD_LOG = {
    "version": 1, "status": "success", "eval": {"run_id": "r", "task": "t", "model": "m"},
    "samples": [{
        "id": 1, "epoch": 1, "input": "Count the buoys", "target": "2",
        "messages": [asks("user", "tc://a"), asks("assistant", "I count the buoys")],
        "output": COUNTED,
        "transcript": {"content": {"a": "Count the buoys"}, "events": [
            {"event": "subtask", "timestamp": growing.T.format(1), "name": "s", "events": [{"event": "logger", "timestamp": growing.T.format(1), "message": {"message": "the pier is closed"}}]},
            {"event": "model", "timestamp": growing.T.format(2), "model": "m", "input": [asks("user", "tc://a")], "output": COUNTED, "call": {"request": {"messages": [asks("user", "tc://a")]}, "response": WIRE}},
        ]},
    }],
}  # fmt: skip
#: A run of SWE-agent in which a person wrote the commands: the history renders what came of each.
BY_HAND = {
    "trajectory": [{"action": "ls quay", "observation": "two boats", "response": "I look at the quay", "state": "{}", "thought": "I look"}],
    "history": [asks("system", "You sail"), asks("user", "Find the boats"), asks("assistant", "I look at the quay"), asks("user", "two boats (open file: none)")],
    "info": {"model_stats": {"api_calls": 0}},
}  # fmt: skip
LETTA = {"result": {"sample": {"id": 1, "input": "Find the cove"}, "trajectory": [[
    {"id": "m1", "date": growing.T.format(1), "message_type": "user_message", "content": "Find the cove"},
    {"id": "m2", "date": growing.T.format(2), "message_type": "tool_call_message", "step_id": "s1", "tool_call": {"name": "map", "arguments": '{"at": 1}', "tool_call_id": "c"}},
    {"id": "m3", "date": growing.T.format(3), "message_type": "tool_return_message", "tool_call_id": "c", "tool_return": "west of here", "status": "success"},
    {"id": "m4", "date": growing.T.format(4), "message_type": "assistant_message", "step_id": "s2", "content": "It is in the west"},
]], "grade": {"score": 1.0, "rationale": "It is so"}}}  # fmt: skip
AGENTBENCH = {
    "index": 1,
    "output": {
        "index": 1,
        "status": "completed",
        "result": "r",
        "history": [asks("user", "Read the tide"), asks("agent", "It is low")],
    },
}
INTERCODE = {"0": {"environment": "ic_bash", "dataset": "d", "task_id": 0, "query": "Name the winds", "turn_history": {"actions": ["cat winds", "wc winds"], "observations": ["north and east", "2 lines"], "rewards": [0, 1], "valid_action": [True, True]}, "summary": {"max_reward": 1.0}}}  # fmt: skip
SMOL = {"model_id": "m", "question": "How deep is it", "answer": "3", "intermediate_steps": [
    {"role": "user", "content": [{"type": "text", "text": "How deep is it"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "I drop a line"}]},
    {"role": "tool-call", "content": [{"type": "text", "text": "Calling tools:\n[{'id': 'c', 'type': 'function', 'function': {'name': 'drop', 'arguments': {'m': 3}}}]"}]},
    {"role": "tool-response", "content": [{"type": "text", "text": "Observation:\nthree fathoms"}]},
]}  # fmt: skip
#: A call and a tool in OpenInference's convention.
SPANS = [
    {"name": "ask", "context": {"trace_id": "a1", "span_id": "s1"}, "span_kind": "LLM", "parent_id": None, "start_time": growing.T.format(1), "end_time": growing.T.format(2), "attributes": {"llm.model_name": "m", "llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": "Name the winds", "llm.output_messages.0.message.role": "assistant", "llm.output_messages.0.message.content": "I look at the vane", "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "vane", "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"at": 1}'}},
    {"name": "vane", "context": {"trace_id": "a1", "span_id": "s2"}, "span_kind": "TOOL", "parent_id": None, "start_time": growing.T.format(2), "end_time": growing.T.format(3), "attributes": {"tool.name": "vane", "input.value": '{"at": 1}', "output.value": "north and east"}},
]  # fmt: skip
#: Answers of batches in the shapes of other APIs.
BATCHES = [
    {"custom_id": "a", "response": {"status_code": 200, "body": {"created": agents.MS // 1000, "model": "m", "choices": [{"index": 0, "message": asks("assistant", "Two gulls")}, {"index": 1, "message": asks("assistant", "Three gulls")}]}}},
    {"custom_id": "b", "result": {"type": "succeeded", "message": {"id": "x", "type": "message", "role": "assistant", "model": "c", "content": [{"type": "thinking", "thinking": "by the pier"}, {"type": "text", "text": "One heron"}]}}},
    {"key": "c", "response": {"candidates": [{"content": {"role": "model", "parts": [{"text": "over there", "thought": True}, {"text": "No tern"}]}}]}},
    {"recordId": "d", "modelInput": {"messages": [asks("user", "Count the boats")]}, "modelOutput": {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Five boats"}]}},
]  # fmt: skip
SHOWN_ANSWER = [asks("user", "Name a wind"), asks("assistant", "the north wind"), asks("user", "And a tide")]
RATED = [
    {"prompt": SHOWN_ANSWER, "completions": [[asks("assistant", "the ebb tide")], [asks("assistant", "the neap tide")]], "rewards": [1, 0]},
    {"instruction": "Name a knot", "completions": [{"response": "a reef knot", "overall_score": 4.0}]},
    {"prompt": "Name a sail", "completion": "the jib there", "reward": 0.5, "model": "m"},
]  # fmt: skip
ONE_FILE = {name: (agents.WHOLE[name][0], json.dumps(agents.WHOLE[name][1](99))) for name in agents.WHOLE}
#: Small files of each format: a format, the file's name, and its text.
SMALL: list[tuple[str, str, str]] = [
    *((name, file, lines(found)) for name, (file, found) in growing.FILES.items()),
    *((name, *file) for name, file in ONE_FILE.items()),
    *((name, file, data.decode()) for name, (file, data) in sessions.FIXTURES.items()),
    ("mini-swe-agent", "a.traj.json", json.dumps(calls_file())),
    ("tau2-bench", "results.json", json.dumps(simulations())),
    ("tau-bench", "a.json", json.dumps([episode(0, 0)])),
    ("inspect", "2024.json", json.dumps(OLD_LOG)),
    ("swe-agent", "by-hand.traj", json.dumps(BY_HAND)),
    ("letta-evals", "a.jsonl", lines([LETTA])),
    ("agentbench", "runs.jsonl", lines([AGENTBENCH])),
    ("intercode", "a.json", json.dumps(INTERCODE)),
    ("smolagents", "a.jsonl", lines([SMOL])),
    ("hf-traces", "hub.jsonl", lines(growing.HUB)),
    (
        "smolagents",
        "run.json",
        json.dumps({"output": "mended", "state": "success", "steps": agents.smol_run(), "token_usage": None, "timing": {}}),
    ),
    ("smolagents", "steps.json", json.dumps(agents.smol_run())),
    ("spans", "otlp.jsonl", lines([growing.span(n) for n in range(3)])),
    ("spans", "spans.json", json.dumps(SPANS)),
    ("aider", ".aider.chat.history.md", agents.AIDER),
    ("batches", "answers.jsonl", lines(BATCHES)),
    ("completions", "rated.jsonl", lines(RATED)),
    ("verifiers-traces", "traces.jsonl", lines([growing.EPISODE, growing.TRACE])),
    ("odograph", "train.jsonl", growing.recorded().decode()),
    ("anthropic-messages", "blocks.jsonl", lines(growing.BLOCKS)),
    ("terminal-bench", "results.json", json.dumps({"id": "r", "results": growing.TRIALS})),
]
FOLDERS = {
    "agent-lightning-archive": "agent-lightning",
    "agentbench-runs": "agentbench",
    "atif": "atif",
    "atropos-groups": "atropos",
    "claude-code": "claude-code",
    "codex": "codex",
    "gemini-cli": "gemini-cli",
    "inspect": "inspect",
    "langfuse-trace": "spans",
    "langsmith-runs": "spans",
    "openinference-spans": "spans",
    "intercode": "intercode",
    "letta-evals": "letta-evals",
    "mini-swe-agent": "mini-swe-agent",
    "openhands-v0-output": "openhands",
    "openhands-v0-traj": "openhands",
    "openhands-v1-dir": "openhands",
    "openhands-v1-output": "openhands",
    "pi-session": "pi-session",
    "smolagents-gaia": "smolagents",
    "sweagent-traj": "swe-agent",
    "tau-bench": "tau-bench",
    "tau2-bench": "tau2-bench",
    "terminal-bench-results": "terminal-bench",
    "verifiers": "verifiers",
}


@pytest.mark.parametrize(("name", "file", "text"), SMALL, ids=[f"{name} {file}" for name, file, _ in SMALL])
def test_an_import_says_what_the_file_says(tmp_path: Path, name: str, file: str, text: str) -> None:
    """Every text, call, argument and result of a file is there once, in order, at its time, as its speaker's; nothing is invented."""
    assert compared(scaffold.write(tmp_path / file, text), name) == []


SESSIONS: dict[str, Callable[[Path], Path]] = {
    "kimi-code": agents.kimi_code,
    "harbor": lambda folder: growing.trial(folder, 4),
    "openhands": lambda folder: growing.of_hands(folder, 99),
}


@pytest.mark.parametrize("name", SESSIONS)
def test_an_import_says_what_the_folder_says(tmp_path: Path, name: str) -> None:
    """The same holds for sessions that are a folder of files."""
    assert compared(SESSIONS[name](tmp_path), name) == []


def test_every_importer_is_read_by_another_reader() -> None:
    """What an importer rebuilds is compared with what a reader that knows nothing of the importer finds in the same file."""
    databases = {name for name, _ in DATABASES.values()}
    assert set(READERS) == set(importers.NAMES) == {name for name, _, _ in SMALL} | set(SESSIONS) | databases | {"claude-code"}


DATABASES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "opencode.db": ("opencode", agents.opencode),
    "state.vscdb": ("cursor", agents.cursor),
    "store.db": ("cursor", agents.cursor_chat),
}


@pytest.mark.parametrize("file", DATABASES)
def test_an_import_says_what_the_database_says(tmp_path: Path, file: str) -> None:
    """The same holds for the databases of agents, whose rows another reader reads."""
    name, fill = DATABASES[file]
    fill(tmp_path / file)
    assert len(list(READERS[name](values(tmp_path / file)))) > 4
    assert compared(tmp_path / file, name) == []


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_samples_say_what_their_files_say(samples: Path, folder: str) -> None:
    """The same holds for real sessions."""
    for path in sorted((samples / folder).iterdir()):
        if not path.name.startswith("deb24f56"):  # a log of a program, no session
            assert compared(path, FOLDERS[folder]) == [], path


@pytest.mark.slow
def test_spans_that_crossed_the_wire_say_what_their_payloads_say(samples: Path) -> None:
    """The same holds for payloads of instrumentations, as they were sent to a collector."""
    for path in sorted((samples / "otlp").rglob("*.pb.json")):
        assert compared(path, "spans") == [], path


def test_the_comparison_sees_what_is_wrong(tmp_path: Path) -> None:
    """A text that is lost, said twice, moved, or given to another is seen."""
    raw = list(READERS["pi-session"](growing.PI))
    ours = Rebuilt.__new__(Rebuilt)
    ours.ended, ours.said = {}, {("t", None): raw[::-1]}
    assert any("out of order" in w for w in misplaced(ours, raw))
    ours.said = {("t", None): [s._replace(time=1) for s in raw if s.kind != RESULT]}
    assert all("time of" in w for w in misplaced(ours, raw)) and misplaced(ours, raw)
