"""Recognising a file by the keys that it begins with."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import odograph
from odograph import importers
from odograph.codec import loads
from odograph.importers import peek
from tests.cost import costs
from tests.importers.scaffold import JUNK


def test_keys_of_the_first_object_two_levels_deep():
    """Lists are looked through, deeper objects and text that looks like JSON are not taken for keys."""
    head = json.dumps({"a": [{"b": {"c": 1}}, {"d": '{"no": 1, "x\\": '}], "e": 1}).encode()
    assert peek.keys(head) == ("{", frozenset({"a", "a.b", "a.d", "e"}))
    assert peek.keys(b'[[{"a": 1}], {"z": 1}]') == ("[", frozenset({"a"}))
    assert peek.keys(b'{"a": 1}\n{"b": 1}') == ("{", frozenset({"a"}))


def test_a_head_that_ends_anywhere_is_read_up_to_there():
    whole = json.dumps({"a": {"b": 'x"}{'}, "c": [{"d": 1}]}).encode()
    for stop in range(len(whole)):
        root, keys = peek.keys(whole[:stop])
        assert root in ("", "{")
        assert keys <= {"a", "a.b", "c", "c.d"}


@given(st.one_of(st.binary(max_size=200), JUNK.map(lambda v: json.dumps(v).encode())))
def test_any_bytes_have_keys_or_none(head: bytes):
    root, keys = peek.keys(head)
    assert root in ("", "{", "[")
    assert all(isinstance(k, str) for k in keys)


def test_the_first_row_is_parsed_once_for_all_importers(tmp_path: Path) -> None:
    """A file whose first line is long costs a few times the parsing of that line to recognise, however many importers look."""
    path = tmp_path / "rows.jsonl"
    line = json.dumps({"unknown": [[n, str(n), {"n": [n] * 5}] for n in range(4000)]}).encode()
    path.write_bytes(line + b"\n")
    assert importers.recognise(path) is None

    def parsed() -> None:
        loads(line)
        with contextlib.suppress(odograph.InvalidInput):
            loads(line[: 64 * 1024])  # the head of a file is looked at first

    _, cost = costs(lambda: importers.recognise(path), rounds=5)
    _, alone = costs(parsed, rounds=5)
    assert cost < 20 * alone
