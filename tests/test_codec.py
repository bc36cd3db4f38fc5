"""What JSON can hold comes back value-equal; what it can't is tagged, and nothing ever raises."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import json
import math
import time
import uuid
from collections import deque
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odograph import codec
from odograph.errors import InvalidInput
from odograph.types import KINDS, LLMCall, Reward, Start

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=25,
)


def same(a: object, b: object) -> bool:
    """Equal in value and type all the way down: 1 is not 1.0 is not True."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@given(JSON)
def test_json_comes_back_exactly(value: object) -> None:
    """Anything JSON can hold, integers of any size and 0.0 included, is stored and read back equal."""
    assert same(codec.loads(codec.encode(value)), value)


ANYTHING = st.recursive(
    JSON
    | st.floats()
    | st.text()
    | st.binary()
    | st.just(object())
    | st.decimals()
    | st.datetimes()
    | st.complex_numbers()
    | st.sets(st.integers()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.one_of(st.text(), st.integers(), st.none(), st.tuples(st.integers())), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(ANYTHING)
def test_nothing_raises_and_everything_is_json(value: object) -> None:
    """Any Python value becomes valid JSON without NaN, so that every tool can read the line."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(codec.encode(value), parse_constant=refuse)


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Bad:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_what_json_cannot_hold_is_tagged_with_its_type() -> None:
    """Non-finite numbers, bytes, dates and objects are kept with their type, never dropped or passed off as text; a set is a sorted list."""
    value = {
        "nan": math.nan,
        "inf": [-math.inf],
        "bytes": b"\xff",
        "set": {10, 9, "b", "a", None, (2, 1), 1.5},
        "frozen": [{"k": frozenset({"z", "y"})}, deque([2, 1])],
        "date": datetime.datetime(2026, 1, 2),
        "decimal": decimal.Decimal("1.10"),
        "lone": "\ud800",
        "bad": Bad(),
        "keys": {1: "a"},
        "point": Point(1, math.nan),
        "tuple": (1, 2),
        "big": 2**70,
        "none": None,
    }
    out = codec.loads(codec.encode(value))
    assert out["nan"] == {"$odograph": "float", "value": "nan"}
    assert out["inf"] == [{"$odograph": "float", "value": "-inf"}]
    assert out["bytes"] == {"$odograph": "bytes", "value": "/w=="}
    assert out["set"] == [1.5, 9, 10, "a", "b", [2, 1], None]
    assert out["frozen"] == [{"k": ["y", "z"]}, [2, 1]]
    assert out["date"]["type"] == "datetime.datetime"
    assert out["date"]["value"] == "2026-01-02T00:00:00"
    assert out["decimal"]["value"] == "1.10"
    assert out["lone"]["$odograph"] == "text"
    assert out["bad"]["value"] == "<no repr: RuntimeError>"
    assert out["keys"] == {"$odograph": "mapping", "value": [[1, "a"]]}
    assert out["point"] == {"x": 1, "y": {"$odograph": "float", "value": "nan"}}
    assert out["tuple"] == [1, 2]
    assert out["big"] == 2**70
    assert out["none"] is None


@pytest.mark.parametrize(("value", "name"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_a_number_that_json_has_no_word_for_is_tagged_alone_too(value: float, name: str) -> None:
    """NaN is NaN and not null, wherever it stands: as the whole value, beside a real null, deep inside, as a value of a record."""
    tag = {"$odograph": "float", "value": name}
    assert codec.loads(codec.encode(value)) == tag
    assert codec.loads(codec.encode([None, value])) == [None, tag]
    assert codec.loads(codec.encode({"a": [{"b": (1, value)}], "c": None})) == {"a": [{"b": [1, tag]}], "c": None}
    assert codec.loads(codec.encode_record({"kind": "note"}, {"data": value}))["data"] == tag
    assert codec.loads(codec.encode_message(value)) == tag
    assert codec.loads(codec.encode(None)) is None


def test_cycles_and_depth_end() -> None:
    """A list that holds itself, or one nested ten thousand deep, is cut at a depth and does not crash."""
    loop: list[object] = []
    loop.append(loop)
    codec.loads(codec.encode(loop))
    deep: object = 1
    for _ in range(10_000):
        deep = [deep]
    codec.loads(codec.encode(deep))
    assert codec.loads_or_raw(b"[" * 100_000)["$odograph"] == "raw"


def test_wire_bytes_that_are_no_json_are_kept_raw() -> None:
    """An HTML error page or random bytes stay what they were."""
    assert codec.loads_or_raw(b"<html>") == {"$odograph": "raw", "value": "<html>"}
    assert codec.loads_or_raw(b"\xff\x00")["$odograph"] == "bytes"
    assert math.isnan(codec.loads(b'{"a": NaN}')["a"])
    with pytest.raises(InvalidInput):
        codec.loads(b"{")


@given(st.lists(JSON, max_size=8))
def test_streamed_events_fold_losslessly(events: list[object]) -> None:
    """Delta-coded events unfold to exactly the events that came."""
    folding, taking = codec.Folding(), codec.Folding()
    left: list[object] = []
    for count in range(len(events) + 1):  # as they come
        folding.add(events[:count])
        left += events[max(count - 1, 0) : count]
        taking.take(left)
    assert codec.encode(taking.folded()) == codec.encode(folding.folded()) and len(left) <= 1
    assert all(map(same, taking.events(), events)) and len(taking.events()) == len(events)
    folded = codec.loads(codec.encode(codec.fold_events(events)))
    assert codec.encode(folding.folded()) == codec.encode(codec.fold_events(events))
    assert all(map(same, codec.unfold_events(folded), events))
    assert len(codec.unfold_events(folded)) == len(events)


def test_folding_makes_streams_small() -> None:
    """A stream of 500 chunks costs a fraction of its bytes."""
    events = [
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "delta": {"content": f"w{i} "}}],
        }
        for i in range(500)
    ]
    assert len(codec.encode(codec.fold_events(events))) < len(codec.encode(events)) / 5


def test_ids_are_uuid7_and_sort_by_age() -> None:
    """Ids are valid UUIDv7, unique, and those of one writer sort in the order in which they were made."""
    make = codec.IdMaker()
    now = time.time_ns()
    made = [make(now + i * 1000) for i in range(5000)]
    assert len(set(made)) == 5000
    per_ms: dict[str, list[str]] = {}
    for one in made:
        per_ms.setdefault(one[:13], []).append(one)
    assert all(ids == sorted(ids) for ids in per_ms.values())
    for one in (made[0], codec.new_id(), codec.derived_id(now, "x"), codec.derived_id(None, "x")):
        assert uuid.UUID(one).version == 7
        assert uuid.UUID(one).variant == uuid.RFC_4122
    assert codec.derived_id(now, "a", 1) == codec.derived_id(now, "a", 1) != codec.derived_id(now, "a", 2)


def test_a_field_of_the_wrong_type_costs_itself_alone() -> None:
    """A record with one field of a wrong type is read; the field is kept in `extra.invalid`."""
    line = b'{"kind":"llm_call","id":"a","trajectory":"t","seq":1,"time":2,"model":5,"usage":"x","response":"hi"}'
    record = codec.decode_record(line)
    assert isinstance(record, LLMCall)
    assert record.response == "hi"
    assert record.extra == {"invalid": {"model": 5, "usage": "x"}}


def test_unknown_fields_are_kept() -> None:
    """A field that no record has is kept in `extra`, not dropped."""
    record = codec.record_from_dict({"kind": "reward", "value": 1, "colour": "red"})
    assert isinstance(record, Reward)
    assert record.extra == {"colour": "red"}
    with pytest.raises(InvalidInput, match="no record kind 'x'; there are: start, step"):
        codec.record_from_dict({"kind": "x"})


@pytest.mark.parametrize("kind", list(KINDS))
def test_records_survive_as_dicts(kind: str) -> None:
    """Every kind of record goes to a dict and back unchanged."""
    record = msgspec.convert({"kind": kind, "id": "a", "trajectory": "t", "seq": 1, "time": 5, "step": 0}, KINDS[kind])
    assert codec.record_from_dict(codec.record_to_dict(record)) == record


def test_older_versions_are_upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of an older schema version goes through every upgrade on the way to today's."""

    def upgrade(raw: dict[str, object]) -> dict[str, object]:
        if raw["kind"] == "start":
            raw["task"] = raw.pop("question")
        return raw

    monkeypatch.setitem(codec.UPGRADES, 0, upgrade)
    record = codec.decode_record(b'{"kind":"start","id":"a","trajectory":"t","question":"2+2?"}', version=0)
    assert isinstance(record, Start)
    assert record.task == "2+2?"


def test_a_stored_file_of_version_1_is_read() -> None:
    """A journal that the first version wrote is read in full, for as long as this project lives."""
    import odograph

    folder = Path(__file__).parent / "data" / "store-v1"
    with odograph.open("memory:") as copy:
        (copy.root / "journal").mkdir()
        for file in (folder / "journal").iterdir():
            (copy.root / "journal" / file.name).write_bytes(file.read_bytes())
        expected = json.loads((folder / "expected.json").read_text())
        found = [t.to_dict() for t in copy.trajectories()]
    assert found == expected
