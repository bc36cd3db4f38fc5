"""What the pages of AWorld and of the issue at agent-lightning promise or ask for, sentence by sentence, as programs.

The programs of AWorld's page run as they stand in `tests/runtime/test_stepping.py`.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest

import odograph
from odograph import Agent, Runners, Task, TaskConfig, TaskRunMode
from odograph.online import rollout
from tests.llm_server import Answer, LLMServer
from tests.runtime.scaffold import asks, by_turn


def google_search(query: str) -> str:
    """Searches."""
    return f"news about {query}"


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with odograph.open(tmp_path / "store") as store:
        yield store


SCRIPT = by_turn(asks(("google_search", {"query": "AI"})), asks(("google_search", {"query": "AI today"})), Answer(text="Much."))


def used(tokens: int) -> dict[str, Any]:
    return {"usage": {"completion_tokens": tokens}}


def searcher(server: LLMServer) -> Agent:
    return Agent(name="searcher", model="m", base_url=server.url + "/v1", api_key="x", tools=[google_search])


# --- AWorld: Trajectory -----------------------------------------------------------------------------------------------


def test_the_runtime_captures_every_step_across_offline_and_online_runs(store: odograph.Store) -> None:
    """A run by itself and a run for a trainer leave the same record: each call, action and reward."""
    with LLMServer(SCRIPT) as server:
        offline = asyncio.run(Runners.run_task(task := Task("news?", searcher(server)), store=store))[task.id]
        offline.reward(1.0, name="correct")
        _, online = asyncio.run(rollout(Task("news?", searcher(server)), reward=lambda t: {"correct": 1.0}, store=store))
    for response in (offline, online):
        t = response.recorded
        assert [(len(s.llm_calls), [a.result for a in s.actions]) for s in t.steps] == [
            (1, ["news about AI"]),
            (1, ["news about AI today"]),
            (1, []),
        ]
        assert t.reward == 1.0 and t.status == "completed" and t.answer == "Much."


def test_each_task_yields_a_complete_trajectory_every_call_action_and_reward(store: odograph.Store) -> None:
    """Many tasks at once, one whole trajectory each, whatever becomes of the others."""

    def script(request: dict[str, Any]) -> Answer:
        return Answer(status=400) if "bad" in str(request["messages"]) else SCRIPT(request)

    with LLMServer(script) as server:
        tasks = [Task(text, searcher(server)) for text in ("a", "bad", "b")]
        responses = asyncio.run(Runners.run_task(tasks, store=store, reward=lambda t: 0.5))
    found = [store.trajectory(responses[task.id].trajectory_id) for task in tasks]
    assert [(t.task, t.status, len(t.llm_calls), len(t.actions), t.reward) for t in found] == [
        ("a", "completed", 3, 2, 0.5),
        ("bad", "failed", 1, 0, 0.5),
        ("b", "completed", 3, 2, 0.5),
    ]


def test_so_you_can_synthesize_training_samples_audit_and_iterate(store: odograph.Store, tmp_path: Path) -> None:
    """The record of a run becomes rows, is validated and counted, and is run again from a step with another agent."""
    with LLMServer(SCRIPT) as server:
        response = asyncio.run(Runners.run("news?", searcher(server), store=store))
        response.reward(1.0)
        assert store.export(tmp_path / "out", to="hf")["rows"] == 3
        assert not [f for f in store.validate().findings if f.severity == "error"]
        assert store.stats().whole.llm_calls == 3
        again = Runners.fork(response.trajectory_id, 1, model="other", store=store)
        assert asyncio.run(Runners.finish(again)).recorded.llm_calls[0].model == "other"


def test_call_step_to_inspect_one_action_response_pair_at_a_time(store: odograph.Store) -> None:
    """Each step gives the one answer and what its tools gave back; the trajectory grows by one, and is JSON of any script."""
    with LLMServer(SCRIPT) as server:
        conf = TaskConfig(resp_carry_context=True, run_mode=TaskRunMode.INTERACTIVE)
        task = Task("neuigkeiten über KI?", searcher(server), conf=conf)
        seen = []

        async def main() -> None:
            finished = False
            while not finished:
                finished, observation, response = await Runners.step(task, store=store)
                items = json.loads(json.dumps(response.trajectory, ensure_ascii=False, indent=2))
                seen.append(
                    (len(items), observation and observation[0]["content"], items[-1]["state"]["messages"][-1]["content"])
                )

        asyncio.run(main())
    assert seen == [
        (1, "news about AI", "neuigkeiten über KI?"),
        (2, "news about AI today", "news about AI"),
        (3, None, "news about AI today"),
    ]


def test_this_lets_you_inject_intermediate_rewards_during_training(store: odograph.Store) -> None:
    """A reward between two steps is on the step, is seen in the next step, and reaches the rows of its step alone."""
    said = [
        Answer(text="t0t1", prompt_token_ids=[1, 2], token_ids=[10, 11], logprobs=[-0.1, -0.2], extra=used(2)),
        Answer(text="t0", prompt_token_ids=[1, 2, 10, 11, 3], token_ids=[12], logprobs=[-0.3], extra=used(1)),
    ]
    with LLMServer(by_turn(*said)) as server:
        client = odograph.wrap(openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x"), tokens=True)

        async def agent(question: str) -> str:
            first = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": question}])
            said = {"role": "assistant", "content": first.choices[0].message.content}
            more = [{"role": "user", "content": question}, said, {"role": "user", "content": "and?"}]
            return str((await client.chat.completions.create(model="m", messages=more)).choices[0].message.content)

        async def main() -> Any:
            task = Task("q", agent)
            _, _, response = await Runners.step(task, store=store)
            response.reward(0.25, name="progress")
            _, _, response = await Runners.step(task, store=store)
            return response

        response = asyncio.run(main())
    assert [r["reward"]["score"] for r in response.trajectory] == [0.25, None]
    (row,) = odograph.samples([response.recorded], credit="per-step", advantage="reward")
    assert row.mask == [0, 0, 1, 1, 0, 1] and [a for n, a in row.advantages for _ in range(n)] == [0, 0, 0.25, 0.25, 0, 0]


# --- the issue at agent-lightning -------------------------------------------------------------------------------------

PROMPT, SAMPLED, LOGPROBS = [1, 2, 3], [10, 11, 12, 13, 14], [-0.1, -0.2, -0.3, -0.4, -0.5]
EDITED = [10, 13, 12]


def think_search_think(store: odograph.Store, *, declared: bool) -> odograph.Trajectory:
    """Think, delete and reorder tokens, search, think: the edit touches no API. Declared, or only seen in the next prompt."""
    with store.record(task="q", agent="rag", model="m", group="g") as run:
        with run.step() as step:
            call = step.llm_call(model="m", prompt_token_ids=PROMPT, token_ids=SAMPLED, logprobs=LOGPROBS, logprobs_of="sampled")
            if declared:
                made = [odograph.Kept(0, 1), odograph.Kept(3, 4), odograph.Kept(2, 3)]
                step.edit(call, result=made, reason="shorter", author="rag")
            step.action("search", {"query": "x"}, result="y")
        with run.step() as step:
            after = [*PROMPT, *EDITED, 50, 51]
            step.llm_call(model="m", prompt_token_ids=after, token_ids=[20, 21], logprobs=[-0.6, -0.7], logprobs_of="sampled")
        run.reward(1.0)
    return store.trajectory(run.id)


@pytest.mark.parametrize("declared", [True, False])
def test_will_modifications_that_bypass_the_api_be_lost(declared: bool, store: odograph.Store) -> None:
    """No: the original ids stay, the edited ids are what the next prompt has, and neither poisons training."""
    t = think_search_think(store, declared=declared)
    assert t.llm_calls[0].choices[0].token_ids == SAMPLED
    assert t.llm_calls[1].prompt_token_ids[3:6] == EDITED  # type: ignore[index]
    env = odograph.samples([t])
    rows = list(env)
    assert [[i for i, m in zip(r.token_ids, r.mask, strict=True) if m] for r in rows] == [SAMPLED, [20, 21]]
    assert rows[1].token_ids == [*PROMPT, *EDITED, 50, 51, 20, 21] and env.report.balanced
    assert env.report.sampled == env.report.trained == 7


def test_some_hook_that_would_allow_me_to_overwrite_the_captured_ids(store: odograph.Store) -> None:
    """The edit says so: `imitate` and `mask` have the edited ids in the place of the captured ones."""
    t = think_search_think(store, declared=True)
    (row,) = odograph.samples([t], edits="imitate")
    assert row.token_ids == [*PROMPT, *EDITED, 50, 51, 20, 21] and row.mask == [0, 0, 0, 1, 1, 1, 0, 0, 1, 1]
    (row,) = odograph.samples([t], edits="mask")
    assert row.token_ids == [*PROMPT, *EDITED, 50, 51, 20, 21] and row.mask == [0, 0, 0, 1, 0, 0, 0, 0, 1, 1]


def test_is_it_to_trigger_a_dummy_call_or_something_else(store: odograph.Store) -> None:
    """Neither a dummy call nor a tool: a decorator, or a line, also long after the run and without a later call."""

    @odograph.edit
    def shorter(response: str) -> str:
        return response[:5]

    with store.record(task="q", agent="rag") as run, run.step() as step:
        step.llm_call(model="m", messages=[{"role": "user", "content": "q"}], response="hello world")
        assert shorter("hello world") == "hello"
    t = store.trajectory(run.id)
    assert len(t.llm_calls) == 1 and [(e.author, e.rejected) for e in t.all_edits] == [("shorter", None)]
    late = think_search_think(store, declared=False)
    with store.append(late.id) as run:
        run.edit(late.llm_calls[1]).truncate(1, reason="too long")
    (row,) = odograph.samples([store.trajectory(late.id)], edits="imitate")
    assert row.token_ids[-1] == 20


def test_treat_the_entire_process_as_a_black_box_and_only_provide_reward_values(store: odograph.Store) -> None:
    """A final trajectory as the process gives it, parsed by a function of the user's own, with a reward: rows like any others."""

    def parsed(final: dict[str, Any]) -> dict[str, Any]:
        return {"task": final["q"], "token_ids": final["p"] + final["r"], "mask": [0] * len(final["p"]) + [1] * len(final["r"])}

    for n, reward in enumerate((0.0, 1.0)):
        final = {"q": "q", "p": [1, 2], "r": [5, 6 + n]}
        store.add({**parsed(final), "logprobs": [None, None, -0.1, -0.2], "reward": reward, "agent": "a", "group": "g"})
    rows = list(odograph.samples(list(store.trajectories()), advantage="dr_grpo"))
    assert [(r.token_ids, r.mask, r.advantage) for r in rows] == [
        ([1, 2, 5, 6], [0, 0, 1, 1], -0.5),
        ([1, 2, 5, 7], [0, 0, 1, 1], 0.5),
    ]


def test_control_the_triplet_generation_logic(store: odograph.Store, tmp_path: Path) -> None:
    """Triplets of agent-lightning, with the policy for edits that is asked for: by `env` each answer as it was sampled."""
    t = think_search_think(store, declared=True)
    store.export(tmp_path / "out", to="agent-lightning")
    (line,) = (tmp_path / "out/data/train.jsonl").read_text().splitlines()
    triplets = json.loads(line)["triplets"]
    assert [(x["prompt"]["token_ids"], x["response"]["token_ids"]) for x in triplets] == [
        (PROMPT, SAMPLED),
        ([*PROMPT, *EDITED, 50, 51], [20, 21]),
    ]
    assert triplets[-1]["reward"] == 1.0 and t.reward == 1.0


def test_directly_return_the_trace_and_triplets_of_a_rollout(store: odograph.Store) -> None:
    """`rollout` gives the row and the response, whose trajectory is the trace, as it ends."""
    answer = Answer(
        text="t0t1", prompt_token_ids=[1, 2], token_ids=[7, 8], logprobs=[-0.3, -0.1], extra={"usage": {"completion_tokens": 2}}
    )
    with LLMServer([answer]) as server:
        agent = Agent(name="a", model="m", base_url=server.url + "/v1", api_key="x")
        row, response = asyncio.run(rollout(Task("q", agent), reward=lambda t: 1.0, store=store))
    assert row is not None and (row.token_ids, row.mask, row.reward) == ([1, 2, 7, 8], [0, 0, 1, 1], 1.0)
    assert response.recorded.llm_calls[0].choices[0].token_ids == [7, 8]
