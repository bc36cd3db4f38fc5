"""What the tests of several importers ask in the same way: totals as a list shows them, stable ids, hostile content."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st

from odograph import importers
from odograph.errors import InvalidInput
from odograph.importers import Session
from odograph.types import Action, End, LLMCall, Record, Reward, Start, StepStart

MINE = ("openhands", "swe-agent", "mini-swe-agent", "tau-bench", "tau2-bench")


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def read(name: str, path: Path) -> list[Session]:
    return list(importers.find(name).read(path))


def one(name: str, path: Path) -> Session:
    (session,) = read(name, path)
    return session


_R = TypeVar("_R", bound=Record)


def of(kind: type[_R], *sessions: Session) -> list[_R]:
    return [r for s in sessions for r in s.records if isinstance(r, kind)]


def recognised(path: Path) -> list[str]:
    """Which of these importers take a file for theirs."""
    head = path.read_bytes()[: 64 * 1024] if path.is_file() else b""
    return [name for name in MINE if importers.find(name).recognise(path, head)]


def totals(sessions: Iterable[Session]) -> dict[str, Any]:
    """Counts as `odograph ls` shows them: stated totals, else the sums over the calls; unknown is None."""
    sessions = list(sessions)
    found: dict[str, Any] = {
        "n_records": len(sessions),
        "steps": len(of(StepStart, *sessions)),
        "llm_calls": len(of(LLMCall, *sessions)),
        "tool_calls": len(of(Action, *sessions)),
    }
    for name in ("prompt_tokens", "completion_tokens"):
        known: list[int] = []
        for session in sessions:
            at_start = of(Start, session)[0].metadata["source"].get("totals", {})
            stated = [said[name] for said in (at_start, *(e.metrics for e in of(End, session))) if name in said]
            known += stated[-1:] or [v for c in of(LLMCall, session) if (v := getattr(c, name)) is not None]
        found[name] = sum(known) if known else None
    task = of(Start, sessions[0])[0].task
    found["first_user_80"] = task[:80] if isinstance(task, str) else task
    return found


def facts(samples: Path, folder: str) -> list[tuple[Path, dict[str, Any]]]:
    known = json.loads((samples / "facts_dev.json").read_text())["files"]
    return [(samples / f["file"].partition("/")[2], f["facts"]) for f in known if f["format"] == folder]


def differences(name: str, path: Path, facts: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What an import says otherwise than the independent counts: ours, theirs. A sum of nothing may be 0 or unknown."""
    ours = totals(read(name, path))
    if path.is_dir():
        del ours["n_records"]  # counts events there
    return {k: (v, facts[k]) for k, v in ours.items() if facts.get(k) is not None and (v or 0) != facts[k]}


def check(sessions: Iterable[Session]) -> None:
    """What holds for every session, whatever its source was."""
    for session in sessions:
        records = session.records
        assert isinstance(records[0], Start)
        assert records[0].metadata["source"]["format"] == session.format
        assert len({r.id for r in records}) == len(records)
        assert all(r.trajectory == session.id for r in records)
        assert [r.seq for r in records] == list(range(len(records)))
        ids: set[str] = set()
        for record in records:
            assert record.parent is None or record.parent in ids
            ids.add(record.id)
        assert all(a.llm_call is None or a.llm_call in ids for a in of(Action, session))
        steps = [r.step for r in of(StepStart, session)]
        assert steps == list(range(len(steps)))
        assert all(isinstance(r.value, (float, dict, type(None))) for r in of(Reward, session))
        for call in of(LLMCall, session):
            assert call.prompt_tokens is None or type(call.prompt_tokens) is int


def ids(sessions: Iterable[Session]) -> list[str]:
    return [r.id for s in sessions for r in s.records]


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(["", "\x00", "\ud800", "x" * 500, "[", "assistant", "NaN", "0"]),
    st.just([]),
    st.just({}),
    st.just([None, 1, "x", {}, []]),
    st.just({"role": 1, "content": {}, "kind": None, "action": {}, "id": []}),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict):
        for key in value:
            found += places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += places(item, (*path, index))
    return found


@st.composite
def damaged(draw: Callable[..., Any], whole: Any) -> Any:
    """The value with up to four of its parts dropped or replaced with junk."""
    value = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(places(value)))
        if not path:
            continue
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        if isinstance(parent, dict) and draw(st.booleans()):
            del parent[path[-1]]
        else:
            parent[path[-1]] = json.loads(json.dumps(draw(JUNK)))
    return value


def survives(name: str, path: Path) -> None:
    """An importer gives sessions or says in one sentence what it found; nothing else, whatever the content."""
    said = ""
    sessions: list[Session] = []
    try:
        sessions = read(name, path)
    except InvalidInput as error:
        said = str(error)
    assert "\n" not in said
    assert bool(said) != bool(sessions)
    check(sessions)
    if sessions:
        assert ids(sessions) == ids(read(name, path))
