"""Records and lines as rows of the sealed tier, at the edges of what a column holds."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest

from odograph.store import layout
from odograph.types import Action, Context, End, Label, LLMCall, Note, Reward, StepStart

pytest.importorskip("pyarrow")


@pytest.mark.parametrize("value", [2**63 - 1, 2**63, -(2**63), -(2**63) - 1])
def test_facts_hold_what_64_bits_hold(value: int) -> None:
    """A whole number is in its column up to its last bit, and not known beyond it: the file could not be written."""
    call = LLMCall(
        trajectory="t", time=1, prompt_tokens=value, completion_tokens=value, step=value >> 32, duration=value, source_time=value
    )
    row = layout.fact_of(call, None, None)
    known = -(2**63) <= value < 2**63
    held = (value, value, value >> 32, value / 1e9, value // 1000) if known else (None,) * 5
    assert tuple(row[name] for name in ("prompt_tokens", "completion_tokens", "step", "duration", "time")) == held
    written(layout.FACTS, row)


def written(table: Any, row: dict[str, Any]) -> dict[str, Any]:
    """A row, as a file of its table would give it back."""
    import pyarrow as pa

    (back,) = pa.Table.from_pylist([row], schema=table.arrow).to_pylist()
    return dict(back)


def test_facts_say_who_and_when() -> None:
    """The time is when it happened, where a source says so; an agent that a record does not name is the trajectory's; a value is a
    number that is finite."""
    about: dict[str, Any] = {"trajectory": "t", "time": 5_000}
    row = layout.fact_of(Action(**about, name="look", source_time=3_000, agent="b"), "g", "a")
    assert (row["group_name"], row["agent"], row["time"], row["name"], row["model"]) == ("g", "b", 3, "look", None)
    row = layout.fact_of(LLMCall(**about, model="m", agent=None, duration=1_500_000_000), None, "a")
    assert (row["agent"], row["time"], row["model"], row["name"], row["duration"]) == ("a", 5, "m", "act", 1.5)
    assert layout.fact_of(Action(**about, agent="half \ud800"), None, None)["agent"] == "half ?"
    named: list[Any] = [Context(**about, provider="kb"), Label(**about, technique="l"), Note(**about, name="n")]
    named += [Reward(**about, name="r"), End(**about, status="failed"), StepStart(**about)]
    assert [layout.fact_of(one, None, None)["name"] for one in named] == ["kb", "l", "n", "r", "failed", None]
    values: list[Any] = [1, 0.5, True, "1", None, 10**400, float("inf"), float("-inf"), float("nan"), [1]]
    found = [layout.fact_of(Reward(**about, value=value), None, None)["value"] for value in values]
    assert found == [1.0, 0.5, *[None] * 8]


@pytest.mark.parametrize(
    ("name", "value"),
    [("stream", 2**63), ("n", -(2**63) - 1), ("same", 2**63), ("stream", "1"), ("n", True), ("hash", 1), ("trajectory", None)],
)
def test_a_message_of_which_a_column_can_not_hold_a_field_is_damaged(name: str, value: Any) -> None:
    """It would be read back as another one; numbers of 64 bits come back."""
    fields = {
        "kind": "message",
        "trajectory": "t",
        "stream": 2**63 - 1,
        "n": -(2**63),
        "same": None,
        "hash": "h",
        "body": {"a": 1},
    }
    row = layout.row_of(json.dumps(fields).replace(": ", ":").encode(), "w", 1)
    assert json.loads(layout.line_of(written(layout.RECORDS, row))[2]) == {k: v for k, v in fields.items() if v is not None}
    with pytest.raises(msgspec.ValidationError, match="lacks a field, or has a field of the wrong type"):
        layout.row_of(json.dumps({**fields, name: value}).replace(": ", ":").encode(), "w", 1)


def test_a_line_that_can_not_be_read_is_kept_as_it_was() -> None:
    """Whoever finds out what it meant has all of its bytes, and from where they were."""
    row = written(layout.RECORDS, layout.damaged_row("w.jsonl", 5, "why", b'{"\xff'))
    assert (row["kind"], row["trajectory"], row["schema_version"]) == ("damaged", "", 1)
    kept = {"file": "w.jsonl", "offset": 5, "reason": "why", "torn": False, "bytes": "eyL/"}
    assert json.loads(row["body"]) == kept


def test_files_have_the_versions_that_others_read() -> None:
    """An Odograph refuses a file of a later version than its own: a version grows where earlier ones would read it wrong."""
    assert {name: table.version for name, table in layout.TABLES.items()} == {"records": 1, "facts": 1, "trajectories": 4}


@pytest.mark.parametrize("body", [{"a": 1}, None, "half \u00e9", 5])
@pytest.mark.parametrize("hash", [None, "", "other", "own"])
def test_a_message_has_the_hash_that_it_had(body: Any, hash: str | None) -> None:
    """None ("") where it had none, another program's, or its own, which the row leaves out."""
    fields: dict[str, Any] = {"kind": "message", "trajectory": "t", "stream": 1, "n": 0, "body": body}
    own = hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).hexdigest()[:32]
    line = json.dumps(fields if hash is None else {**fields, "hash": own if hash == "own" else hash}, separators=(",", ":"))
    row = written(layout.RECORDS, layout.row_of(line.encode(), "w", 1))
    assert row["hash"] != own
    assert json.loads(layout.line_of(row)[2])["hash"] == json.loads(line).get("hash", "")


@pytest.mark.parametrize(
    ("given", "exact"), [([-0.5, None], False), ([-0.0, 2.0**-149], False), ([0.1], True), ([1e39, -0.5], True), ([1e-46], True)]
)
def test_logprobs_are_halved_where_that_changes_none(given: list[float | None], exact: bool) -> None:
    """32 bits each where they hold all of them, else 64."""
    line = json.dumps({"kind": "llm_call", "trajectory": "t", "tokens": [{"logprobs": given}]}).encode()
    row = written(layout.RECORDS, layout.row_of(line, "w", 1))
    assert (row["logprobs"] is None, row["logprobs_exact"] is None) == (exact, not exact)
    assert repr(json.loads(layout.line_of(row)[2])["tokens"][0]["logprobs"]) == repr(given)


def test_a_row_says_whose_streams_its_call_refers_to() -> None:
    """A line in another writer's file refers to streams of that file; most say the writer of their file, or none."""
    for writer, streams in ((None, None), ("w", None), ("v", "w")):
        about = {"kind": "note", "trajectory": "t", **({} if writer is None else {"writer": writer})}
        row = written(layout.RECORDS, layout.row_of(json.dumps(about).encode(), "w", 7))
        assert (row["writer"], row["stream_writer"]) == (writer or "w", streams)
        assert layout.line_of(row)[:2] == ("w", 7)
