"""A request that goes on from the one before costs what is new in it, and is read as if nothing had come before."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from odograph import Agent, Task
from odograph.codec import encode_finite, loads
from odograph.plain import plain_of
from odograph.prefix import Prefix
from odograph.runtime.conversation import State
from odograph.wire import Sent, of_wire
from tests.cost import costs

NAMES = st.sampled_from(["model", "messages", "input", "tools", "\0", "a"])
MESSAGES = st.lists(
    st.sampled_from([{"role": "user", "content": "ä"}, {"a": "]"}, {}, 1, 12, "x", '[1]}","messages":[', [[]], None])
)
BODIES = st.lists(
    st.tuples(NAMES, MESSAGES | st.sampled_from(["[1]", {"messages": [1]}, {"messages": [{"a": "]"}]}, 1.5])),
    min_size=1,
    max_size=4,
)


def written(fields: list[tuple[str, Any]], spaces: bool) -> bytes:
    """A body with fields in their order, some perhaps twice."""
    comma, colon = (", ", ": ") if spaces else (",", ":")
    parts = (json.dumps(k) + colon + json.dumps(v, separators=(comma, colon), ensure_ascii=False) for k, v in fields)
    return ("{" + comma.join(parts) + "}").encode()


def whole(request: Any) -> Any:
    if isinstance(request, dict):
        assert "\0" not in request or not isinstance(request["\0"], Prefix)
        return [(k, loads(encode_finite(v) if not isinstance(v, list | Prefix) else json_of(v))) for k, v in request.items()]
    return request


def json_of(items: Any) -> bytes:
    return b"[%b]" % b",".join(bytes(plain_raw(item)) for item in items)


def plain_raw(item: Any) -> bytes:
    return bytes(item) if type(item).__name__ == "Raw" else encode_finite(plain_of(item))


@example(
    [([("messages", [{"a": "]"}])], False, [1], 0), ([("messages", [{"a": "]"}, 1]), ("messages", [{"a": 9}])], False, [], 0)]
)
@given(st.lists(st.tuples(BODIES, st.booleans(), MESSAGES, st.integers(0, 200)), min_size=1, max_size=4))
def test_what_came_before_changes_nothing_of_what_is_read(sent: list[Any]) -> None:
    """Whatever bodies follow one another (fields twice, cut short, nested, damaged), each is read as it is read alone."""
    known = Sent()
    for fields, spaces, more, cut in sent:
        longer = [(k, v + more if isinstance(v, list) else v) for k, v in fields]
        first, second = written(fields, spaces), written(longer, spaces)
        for body in (first, second, first, second[:cut] + first[cut:], second[:cut]):
            assert whole(known.request(body, None)) == whole(of_wire(body, None)), body


def test_a_longer_history_is_the_same_list_and_costs_what_is_new() -> None:
    """Messages that were sent before are the same objects, and the rest of the request is what it is."""
    history = [{"role": "user", "content": f"message {n}", "content2": None} for n in range(20_000)]
    bodies = [
        json.dumps({"model": "m", "messages": history[: 19_990 + n], "tools": [n]}, separators=(",", ":")).encode()
        for n in range(10)
    ]
    known = Sent()
    first = known.request(bodies[0], "openai.chat")
    requests, took = costs(lambda: [known.request(body, "openai.chat") for body in bodies[1:]])
    assert [r["messages"].base is first["messages"].base and r["tools"] == [n + 1] for n, r in enumerate(requests)] == [True] * 9
    assert len(first["messages"]) == 19_990
    assert bytes(requests[-1]["messages"][-1]) == encode_finite(history[19_998])
    _, alone = costs(lambda: [of_wire(body, "openai.chat") for body in bodies[1:]])
    assert took < alone / 4


def test_an_agents_history_is_encoded_once() -> None:
    """What an agent sends is the JSON of its request, whatever was edited before, and what was sent before costs nothing."""
    agent = Agent(model="m")
    state = State(agent, Task("q", agent))
    said, put, n, flag = {"role": "user", "content": "1"}, {"role": "user", "content": "put in"}, {"n": 1}, {"n": True}
    system = {"role": "system", "content": "s"}

    def sent(history: list[Any]) -> bytes:
        return state.encoded({"model": "m", "messages": [dict(system), *history], "n": 1})

    for history in ([said], [said], [said, n], [said, flag], [said, put, flag], [said], [], [n, n]):
        assert sent(history) == encode_finite({"model": "m", "messages": [system, *history], "n": 1})
    strange = [{"content": "half \ud800"}, {"content": 1 << 70}]
    assert json.loads(sent(strange))["messages"][1:] == [{"content": "half ?"}, {"content": 1 << 70}]
    assert state.encoded({"model": "m"}) == b'{"model":"m"}'
    long = [{"role": "user", "content": {"text": f"message {n}", "parts": list(range(20))}} for n in range(10_000)]
    _, first = costs(lambda: sent(long))
    _, again = costs(lambda: sent(long), rounds=3)
    assert again < first / 3
