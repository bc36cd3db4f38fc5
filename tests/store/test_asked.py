"""What a store that is served answers to others: questions as they come, of which none is trusted."""

from __future__ import annotations

import json
from typing import Any

import pytest

import odograph
from odograph.store.asked import answered, frames
from odograph.store.filters import Filters


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        *(("count", given, "count is asked with a list of 1 values") for given in (None, {}, [], [{}, 1])),
        ("count", [{"time_range": [2**63, None]}], "a time has at most 64 bits"),
        ("count", [{"time_range": [None, -(2**63) - 1]}], "a time has at most 64 bits"),
        ("count", [{"limit": -1}], "a limit is a whole number from 0, not -1"),
        ("count", [5], "a question that can't be read: "),
        ("search", ["x", 2**70], "a number has at most 64 bits"),
        *((name, [{"time_range": [2**80, None]}, None], "a time has at most 64 bits") for name in ("summaries", "figures")),
        *(
            (name, given, "a question that can't be read: ")
            for name in ("summaries", "figures", "read")
            for given in (None, [], [1, 2], [[], False, 1], "ab", {"a": 1, "b": 2})
        ),
    ],
)
def test_what_is_no_question_is_told(store: odograph.Store, name: str, given: Any, said: str) -> None:
    """One sentence for whoever asked, of any question, and nothing else happens."""
    store.record(task="t").finish()
    ask = answered if name in ("count", "search") else lambda *asked: list(frames(*asked))
    with pytest.raises(odograph.InvalidInput, match=said):
        ask(store.backend.reader, name, given)


def test_filters_of_the_server_hold_where_a_question_has_none(store: odograph.Store) -> None:
    """Each filter that is asked for takes the place of the server's own, and leaves the others."""
    for agent in ("a", "b", "b"):
        store.record(task="t", agent=agent, tags=["x"]).finish()
    base = Filters.of({"agent": "b", "tag": "x"})

    def count(**asked: Any) -> Any:
        return json.loads(answered(store.backend.reader, "count", [asked], base))

    assert [count(), count(agent="a"), count(agent="a", tag=["y"]), count(limit=1)] == [2, 1, 0, 1]
    assert [count(time_range=times) for times in ([-(2**63), 2**63 - 1], [None, None], [2**63 - 1, None])] == [2, 2, 0]
    for newest in (True, False):
        (page,) = frames(store.backend.reader, "summaries", [{"limit": 2}, newest], base)
        assert [s["agent"] for s in json.loads(page)] == ["b", "b"]
    (page,) = frames(store.backend.reader, "figures", [{}, "agent"], base)
    assert json.loads(page)["key"] == ["b", "b"]
