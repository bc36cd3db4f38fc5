"""The export to agent-lightning in the hands of its own classes; run by tests/training/test_trainers.py, in an environment of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import agentlightning
from agentlightning import LLM, Rollout, Span, Triplet
from agentlightning.adapter import TracerTraceToTriplet

import odograph
from odograph import Agent
from odograph.online.agent_lightning import lit_rollout
from tests.llm_server import Answer, LLMServer

#: (prompt, sampled, logprobs): the second goes on from the first, the third from an edit.
CALLS = [
    ([1, 2, 3], [10, 11, 12], [-0.5, -0.25, -0.125]),
    ([1, 2, 3, 10, 11, 12, 50, 51], [20, 21], [-1.0, -2.0]),
    ([1, 2, 3, 10, 11, 12, 50, 51, 21, 52], [30], [-4.0]),
]


def exported(where: Path) -> list[Triplet]:
    """The triplets of one trajectory."""
    with odograph.open("memory:") as store:
        with store.record(task="q", agent="solver", model="m", group="g") as run:
            for n, (prompt, sampled, logprobs) in enumerate(CALLS):
                with run.step() as step:
                    call = step.llm_call(model="m", prompt_token_ids=prompt, token_ids=sampled, logprobs=logprobs)
                    if n == 1:
                        step.edit(call).delete(0, 1, reason="twice")
            run.reward(0.5)
        store.export(where, to="agent-lightning")
    (line,) = (json.loads(line) for line in (where / "data" / "train.jsonl").read_bytes().splitlines())
    return [Triplet.model_validate(one) for one in line["triplets"]]


def span(name: str, number: int, **attributes: Any) -> Span:
    """A span as its tracer writes it."""
    return Span.from_attributes(
        name=name,
        span_id=f"{number:016x}",
        parent_id=None if name == "root" else f"{0:016x}",
        trace_id="t" * 32,
        rollout_id="rollout",
        attempt_id="attempt",
        sequence_id=number,
        start_time=float(number),
        end_time=20.0 if name == "root" else number + 0.5,
        attributes=attributes,
    )


def test_triplets_are_what_its_own_adapter_makes_of_the_same_calls(tmp_path: Path) -> None:
    """Prompt and response ids, logprobs and the reward of each call, as its tracer and adapter have them; an edit is in the next prompt."""
    ours = exported(tmp_path / "out")
    spans = [span("root", 0)]
    for number, (prompt, sampled, logprobs) in enumerate(CALLS, 1):
        about = {
            "prompt_token_ids": prompt,
            "response_token_ids": sampled,
            "gen_ai.response.id": f"r{number}",
            "logprobs.content": json.dumps([{"token": str(i), "logprob": p} for i, p in zip(sampled, logprobs, strict=True)]),
        }
        spans.append(span("openai.chat.completion", number, **about))
    reward = {"agentlightning.reward.0.name": "primary", "agentlightning.reward.0.value": 0.5}
    spans.append(span("agentlightning.annotation", 9, **reward))
    theirs = TracerTraceToTriplet().adapt(spans)

    def told(triplets: list[Triplet]) -> list[Any]:
        return [
            (t.prompt["token_ids"], t.response["token_ids"], [p["logprob"] for p in t.response["logprobs"]], t.reward)
            for t in triplets
        ]

    assert told(ours) == told(theirs) == [(*call, 0.5 if n == 2 else None) for n, call in enumerate(CALLS)]
    assert [Triplet.model_validate_json(t.model_dump_json()) for t in ours] == ours


def said(prompt: list[int], tokens: dict[int, str], **message: Any) -> Answer:
    """What vLLM answers, with the ids and the text of each token."""
    content = [{"token": text, "logprob": -0.5} for text in tokens.values()]
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop", "token_ids": list(tokens)}
    usage = {"prompt_tokens": len(prompt), "completion_tokens": len(tokens)}
    return Answer(extra={"choices": [{**choice, "logprobs": {"content": content}}], "usage": usage, "prompt_token_ids": prompt})


def test_its_runner_gets_the_triplets_of_an_agent(tmp_path: Path) -> None:
    """`@agl.rollout` takes what `lit_rollout` makes: an `Agent` with a tool asks the resource's endpoint with its parameters, is
    recorded, and gives one triplet per call, the reward on the last; an agent that fails gives none."""

    def look() -> str:
        """Looks."""
        return "red"

    call = {"id": "call_0", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    script = [
        said([1, 2], {10: "look", 11: "{}"}, content=None, tool_calls=[call]),
        said([1, 2, 10, 11, 3], {20: "red"}, content="red"),
        Answer(status=400),
    ]
    with LLMServer(script) as server, odograph.open(tmp_path / "s") as store:
        agent = Agent(name="looker", model="its own", tools=[look])
        theirs = agentlightning.rollout(lit_rollout(agent, reward=lambda t: 0.5, store=store))
        llm = LLM(endpoint=server.url + "/v1", model="policy", sampling_parameters={"temperature": 1.0})
        rollout = Rollout(rollout_id="r", input="What colour?", start_time=0.0)
        made = asyncio.run(theirs.rollout_async("What colour?", {"main_llm": llm}, rollout))
        assert asyncio.run(theirs.rollout_async("And now?", {"main_llm": llm}, rollout)) == []
        body = server.requests[0][1]
        assert (body["model"], body["temperature"], body["messages"][-1]["content"]) == ("policy", 1.0, "What colour?")
        assert next(store.trajectories(status="completed")).reward == 0.5
    assert all(isinstance(one, Triplet) for one in made)
    told = [(t.prompt["token_ids"], t.response["token_ids"], t.reward) for t in made]
    assert told == [([1, 2], [10, 11], None), ([1, 2, 10, 11, 3], [20], 0.5)]
