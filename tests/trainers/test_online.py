"""Trainers that call agents, by their own classes: TRL's loop, ART's trajectories, a harness of verifiers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import Agent, Task
from odograph.online import ChatServer, Generated, art, trl, verifiers
from odograph.runtime.template import Template

pytest.importorskip("trl")
from examples.grpo_cpu.looker import looks, make_template, worth
from examples.grpo_cpu.policy import COLOURS, make_tokenizer

ROOT = Path(__file__).parent.parent.parent


def example(out: Path, *arguments: str, name: str = "online") -> str:
    command = [sys.executable, "-m", f"examples.grpo_cpu.{name}", "--out", str(out), *arguments]
    env = {**os.environ, "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
def test_trl_calls_an_agent_while_it_trains(tmp_path: Path) -> None:
    """`GRPOTrainer` gets one row per prompt, of an agent with a tool and an edit; all of it is on record, at the trainer's step."""
    example(tmp_path, "--steps", "1")
    with odograph.open(tmp_path / "store") as store:
        found = list(store.trajectories())
    assert len(found) == 32 and {t.start.policy_version for t in found} == {0}
    assert all(t.reward is not None for t in found)
    assert any(e.reason == "only the tool is wanted" for t in found for s in t.steps for e in s.edits)


@pytest.mark.slow
def test_the_policy_learns(tmp_path: Path) -> None:
    """After 40 steps the mean reward is above what it was."""
    example(tmp_path, "--steps", "40")
    rewards = json.loads((tmp_path / "rewards.json").read_text())
    assert sum(rewards[-5:]) > 1.3 * sum(rewards[:5])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["with_art", "with_verifiers"])
def test_the_policy_learns_under_other_trainers(tmp_path: Path, name: str) -> None:
    """What ART's gathering and verifiers' environment return of the agent trains, on the very tokens that were sampled: the mean
    reward goes up. The agent edits."""
    example(tmp_path, "--steps", "30", "--attempts", "8", "--learning-rate", "2e-3", name=name)
    history = json.loads((tmp_path / "rewards.json").read_text())
    rewards = [h["reward"] for h in history]
    assert sum(rewards[-5:]) > 1.3 * sum(rewards[:5]) and max(h["gap"] for h in history) < 1e-4
    with odograph.open(tmp_path / "store") as store:
        found = list(store.trajectories())
    assert len(found) == 30 * 32 and any(s.edits for t in found for s in t.steps)


def engine(ids: list[int], params: dict[str, Any]) -> Generated:
    """Looks, then says red."""
    words = make_tokenizer().convert_tokens_to_ids(["red", "<end>"] if "<tool>" in str(TOKENS.decode(ids)) else ["look", "<end>"])
    return Generated(list(words), [-0.5] * len(words))


TOKENS = make_tokenizer()


def test_trls_rows_and_what_is_none(tmp_path: Path) -> None:
    """A rollout without a row is a row of one token that is not trained, with an unknown reward; the others are as recorded."""
    made = make_template()
    with odograph.open(tmp_path / "s") as store, ChatServer(engine, made) as server:
        rollout = trl.rollout_func(looks_or_fails(made), reward=worth, base_url=server.url, store=store, tokenizer=made)
        trainer = types.SimpleNamespace(processing_class=made.tokenizer, state=types.SimpleNamespace(global_step=3))
        out = rollout(["red", "green", "broken"], trainer)
    assert [len(v) for v in out.values()] == [3] * 5
    assert out["odograph_reward"] == [1.0, 0.2, None] == trl.reward(["a", "b", "c"], **out)
    assert [sum(m) for m in out["env_mask"]] == [4, 4, 0] and out["logprobs"][2] == [0.0]
    assert all(
        len(c) == len(m) == len(p) for c, m, p in zip(out["completion_ids"], out["env_mask"], out["logprobs"], strict=True)
    )
    factory = trl.environment_factory([search], reward=lambda t: float(len(t.actions)), store=odograph.open(tmp_path / "t"))
    environment = factory()
    environment.reset(prompt="q")
    assert environment.search("rain") == "nothing about rain" and environment.get_reward() == 1.0
    from transformers.utils import get_json_schema

    assert get_json_schema(environment.search)["function"]["parameters"]["required"] == ["query"]


def looks_or_fails(made: Template) -> Any:
    def task(colour: str) -> Task:
        found = looks(colour, made)
        if colour == "broken":
            found.agent = Agent(model="m", dialect="openai.completions", tokenizer=made, timeout=1e-6, max_retries=0)
        return found

    return task


def search(query: str) -> str:
    """Searches.

    Args:
        query: what for
    """
    return f"nothing about {query}"


def test_art_and_verifiers(tmp_path: Path) -> None:
    """ART's own class holds the trajectory; a harness of verifiers asks the interception endpoint with its secret."""
    made = make_template()

    async def main() -> None:
        with odograph.open(tmp_path / "s") as store, ChatServer(engine, made) as server:

            def task(colour: str) -> Task:
                found = looks(colour)
                found.agent = found.agent.replace(on_answer=None)
                return found

            model = types.SimpleNamespace(inference_base_url=server.url, inference_api_key="k", inference_model_name="tiny")
            trajectory = await art.trajectory(task, model, "red", reward=worth, store=store)
            assert type(trajectory).__module__.startswith("art") and trajectory.reward == 1.0
            assert len(trajectory.additional_histories) == 1
            kind = verifiers.harness(lambda data: task(data.prompt), reward=worth, store=store)
            launched = await kind.launch(
                object.__new__(kind), None, None, None, server.url, "secret", {}, types.SimpleNamespace(prompt="red")
            )
            assert (launched.exit_code, launched.stdout) == (0, "red")

    asyncio.run(main())


def wordy(ids: list[int], params: dict[str, Any]) -> Generated:
    """Looks and says more, then says red, and is cut where it says more than is asked for."""
    said = ["red", "red", "red"] if "<tool>" in str(TOKENS.decode(ids)) else ["look", "white", "<end>"]
    words = TOKENS.convert_tokens_to_ids(said[: params["max_tokens"]])
    return Generated(words, [-0.5] * len(words), "stop" if said[-1] == "<end>" else "length")


def test_verifiers_own_environment_runs_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server, client and rewards: an edit is a branch whose prompt nobody trains, a cut answer is scored as any other."""
    from examples.grpo_cpu import with_verifiers

    monkeypatch.setenv("ODOGRAPH_STORE", str(tmp_path))
    with ChatServer(wordy, make_template()) as server:
        rewards, batch = asyncio.run(with_verifiers.rollouts(server.url, make_template(), 1))
    assert rewards == [0.9 if colour == "red" else 0.2 for colour in COLOURS]
    assert [TOKENS.decode(row[mask]) for row, mask in zip(batch["tokens"], batch["assistant_mask"], strict=True)] == [
        "look white <end>",
        "red red red",
    ] * 4
    assert "<assistant> look <end> <tool>" in TOKENS.decode(batch["tokens"][1])
    with odograph.open(tmp_path) as store:
        found = list(store.trajectories())
    assert [t.reward for t in found] == rewards and {t.status for t in found} == {"truncated"}
    assert all(e.reason == "only the tool is wanted" for t in found for s in t.steps for e in s.edits)
