"""Kinds of small programs that went wrong elsewhere: outcomes, results as images, budgets, what is not repeated, waits."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import Agent, Runners, Task, TaskConfig
from odograph.asking import endpoint
from tests.llm_server import Answer, LLMServer
from tests.waiting import cut_off

from .scaffold import PATHS, add, asks, by_turn, turns

DOT = {"type": "image_url", "image_url": {"url": "data:image/png;base64,ZG90"}}


def agent(server: LLMServer, dialect: str = "openai.chat", **settings: Any) -> Agent:
    url = server.url + PATHS[dialect]
    return Agent(model="m", base_url=url, api_key="x", dialect=dialect, **{"tools": [add], "max_retries": 0, **settings})


def test_a_first_program_without_a_key(tmp_path: Path) -> None:
    """It is told on stderr what is missing, before anything is asked; the trajectory says so, too."""
    code = "from odograph import Agent, Runners; print(Runners.sync_run('q', Agent(model='gpt-4o')).answer)"
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n" and "failed: agent 'agent' failed: " in done.stderr and "set $OPENAI_API_KEY" in done.stderr
    (t,) = odograph.open(tmp_path / "odograph").trajectories()
    assert t.status == "failed" and not t.llm_calls


@pytest.mark.parametrize("dialect", PATHS)
def test_an_image_of_a_tool_is_an_image(dialect: str, store: odograph.Store) -> None:
    """In each dialect in its own form; resumed and replayed, it is the same; data that only looks alike stays data."""

    def photo() -> Any:
        """A photo."""
        return ["a dot", DOT]

    def data() -> Any:
        """Data."""
        return [{"type": "image", "size": 3}]

    def shot() -> bytes:
        """A screenshot."""
        return b"GIF89a!"

    with LLMServer(by_turn(asks(("photo", {}), ("data", {}), ("shot", {})), Answer(text="end"))) as server:
        own = agent(server, dialect, tools=[photo, data, shot])
        response = Runners.sync_run("q", own, store=store)
        body = json.dumps(server.requests[1][1])
        form = {"openai.chat": '"image_url": {"url": "data:image', "openai.responses": '"image_url": "data:image', "anthropic.messages": '"media_type": "image/png"'}  # fmt: skip
        assert form[dialect] in body and body.count("ZG90") == 1 and "a dot" in body and "size" in body
        assert body.count("R0lGODlhIQ==") == 1 and body.count("image/gif") == 1
        assert asyncio.run(odograph.replay(response.trajectory_id, own, store=store)).same


def test_tokens_bound_a_run_and_its_helpers(store: odograph.Store) -> None:
    """`max_tokens` ends a run as truncated, also where an agent that is a tool spends them."""
    with LLMServer(lambda request: asks(("add", {"a": 1, "b": 1}), id=f"c{turns(request)}")) as server:
        response = Runners.sync_run("q", agent(server), TaskConfig(max_tokens=25), store=store)
        assert (response.status, response.msg) == ("truncated", "no end within 25 tokens") and len(server.requests) == 3
        helper = agent(server, name="add")
        boss = agent(server, tools=[helper], name="boss", max_steps=50)
        before = len(server.requests)
        response = Runners.sync_run("q", boss, TaskConfig(max_tokens=45), store=store)
        assert response.status == "truncated" and len(server.requests) - before <= 6


def test_a_tool_that_is_not_to_be_repeated(store: odograph.Store) -> None:
    """Cut off in the middle of it, a resumed run says that it was begun, and goes on without it; a tool that ended may be used
    again."""
    paid: list[int] = []

    async def pay(euros: int) -> str:
        """Pays."""
        paid.append(euros)
        await asyncio.sleep(0 if euros == 1 else 30)
        return "paid"

    async def main() -> Any:
        with LLMServer(by_turn(asks(("pay", {"euros": 1})), asks(("pay", {"euros": 2})), asks(("pay", {"euros": 1})), Answer(text="end"))) as server:  # fmt: skip
            own = agent(server, tools=[pay], once=["pay"])
            task = Task("q", own)
            await Runners.step(task, store=store)
            await cut_off(Runners.step(task), lambda: len(paid) == 2)
            response = await Runners.finish(Runners.resume(store, task._session.run.id, agent=own))
            assert response.answer == "end" and paid == [1, 2, 1]
            return [a.error for a in response.recorded.actions if a.ok is False]

    assert any("was begun before the run was cut off" in str(error) for error in asyncio.run(main()))


def test_how_long_a_server_asks_to_wait() -> None:
    """Seconds, milliseconds or a date; above a minute, too; nonsense is our own backoff."""
    assert endpoint._retry_after({"retry-after": "90"}) == 90.0 == endpoint._bounded(90.0, 1.0)
    assert endpoint._retry_after({"retry-after-ms": "1500"}) == 1.5
    wait = endpoint._retry_after({"retry-after": formatdate(time.time() + 120, usegmt=True)})
    assert wait is not None and 110 < wait <= 121
    assert [endpoint._retry_after({"retry-after": v}) for v in ("soon", "nan", "inf", "")] == [None] * 4
    assert endpoint._retry_after({"retry-after": formatdate(0, usegmt=True)}) == 0.0
    assert endpoint._bounded(None, 300.0) == 60.0 and endpoint._bounded(1e9, 1.0) == 600.0


def test_tool_calls_that_came_without_ids(store: odograph.Store) -> None:
    """Each gets an id, and its result names it; a replay gives the same ids."""

    def model(request: dict[str, Any]) -> Answer:
        calls = [{"type": "function", "function": {"name": "add", "arguments": json.dumps({"a": 1, "b": n})}} for n in (1, 2)]
        return Answer(text="end") if turns(request) else Answer(text="", tool_calls=calls)

    with LLMServer(model) as server:
        own = agent(server)
        response = Runners.sync_run("q", own, store=store)
        asked, *told = server.requests[1][1]["messages"][1:]
        assert [c["id"] for c in asked["tool_calls"]] == [m["tool_call_id"] for m in told] == ["call_1_0", "call_1_1"]
        assert [m["content"] for m in told] == ["2", "3"]
        assert asyncio.run(odograph.replay(response.trajectory_id, own, store=store)).same


REFUSED = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No, I won't."}]}


@pytest.mark.parametrize(
    ("dialect", "answer", "status", "said"),
    [
        ("openai.chat", {"choices": [{"message": {"content": None, "refusal": "No, I won't."}, "finish_reason": "stop"}]}, "failed", "'refusal'"),
        ("openai.responses", {"status": "completed", "output": [REFUSED]}, "failed", "'refusal'"),
        ("openai.responses", {"status": "failed", "error": {"message": "engine died"}, "output": []}, "failed", "'failed'): engine died"),
        ("openai.responses", {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": []}, "failed", "'content_filter'"),
        ("openai.responses", {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}, "truncated", "'length'"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_says_why(dialect: str, answer: Any, status: str, said: str, store: odograph.Store) -> None:
    """A refusal, a failure and a cut say what the server said; a refusal's words are kept."""
    with LLMServer([Answer(extra={"id": "r", "object": "chat.completion", **answer})]) as server:
        response = Runners.sync_run("q", agent(server, dialect), store=store)
    assert response.status == status and said in str(response.msg), response.msg
    assert response.answer == ("No, I won't." if "refusal" in said else None)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("prompt is too long: 210000 tokens > 200000 maximum", "truncated"),
        ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", "truncated"),
        ("Input is too long for requested model.", "truncated"),
        ("Please reduce the length of the messages or completion.", "truncated"),
        ("Prompt length (20000) exceeds max_model_len (16384)", "truncated"),
        ("The decoder prompt (length 9) is longer than the maximum model length of 8.", "truncated"),
        ("Unsupported parameter: 'context_length'", "failed"),
        ("max_tokens is too large: 100000. This model supports at most 4096 completion tokens", "failed"),
        ("'user' is too long. Expected a string with maximum length 64", "failed"),
    ],
)
def test_only_a_prompt_can_be_too_long(message: str, status: str, store: odograph.Store) -> None:
    """A conversation that outgrew the model is truncated; a field of the request that is too long is a mistake of the request."""
    with LLMServer([Answer(status=400, raw=json.dumps({"error": {"message": message}}).encode())]) as server:
        assert Runners.sync_run("q", agent(server), store=store).status == status


def test_arguments_that_a_server_sends_as_an_object(store: odograph.Store) -> None:
    """Are text when they are sent back, as the API wants them; what iterates gives the model its items."""

    def parts(of: str) -> Any:
        """Parts."""
        return map(str.upper, of)

    call = {"id": "c", "type": "function", "function": {"name": "parts", "arguments": {"of": "ab"}}}
    with LLMServer(by_turn(Answer(text="", tool_calls=[call]), Answer(text="end"))) as server:
        assert Runners.sync_run("q", agent(server, tools=[parts]), store=store).answer == "end"
        *_, said, result = server.requests[1][1]["messages"]
    assert said["tool_calls"][0]["function"]["arguments"] == '{"of":"ab"}' and result["content"] == '["A","B"]'


@pytest.mark.parametrize("name", ["max_steps", "max_tokens", "timeout", "tool_timeout"])
@pytest.mark.parametrize("value", [0, -1, "x", float("nan"), True])
def test_limits_are_numbers(name: str, value: Any) -> None:
    """A limit that is none is refused where it is given, not in the middle of a run."""
    with pytest.raises(odograph.InvalidInput, match=f"{name} is a"):
        TaskConfig(**{name: value})
    if name != "max_tokens":
        with pytest.raises(odograph.InvalidInput, match=f"{name} is a"):
            Agent(model="m", **{name: value})
