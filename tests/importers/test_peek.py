"""Recognising a file by the keys that it begins with."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from odograph.importers import peek
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
