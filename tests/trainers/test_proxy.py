"""Rollouts of an agent that can't be touched: recorded at the proxy with token ids, and trained on."""

from __future__ import annotations

import json
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import odograph

pytest.importorskip("trl")
pytest.importorskip("aiohttp")
import torch

from examples.grpo_cpu.policy import COLOURS, LOOK, make_model, make_tokenizer
from examples.grpo_cpu.server import ModelServer
from examples.grpo_cpu.train import train
from odograph.proxy.service import Proxy

TOOLS = [{"type": "function", "function": {"name": LOOK, "parameters": {"type": "object", "properties": {}}}}]


def agent(base_url: str, colour: str) -> tuple[bool, str]:
    """Knows a base URL and nothing of us: asks, looks where the model wants it to, and answers. Whether it looked, and its answer."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "which colour"}]
    looked, message = False, {}
    for _ in range(3):
        body = json.dumps({"model": "tiny", "messages": messages, "tools": TOOLS}).encode()
        request = urllib.request.Request(base_url + "/chat/completions", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            whole = json.load(answer)
        (choice,) = whole["choices"]
        assert "prompt_token_ids" not in whole and "token_ids" not in choice and choice.get("logprobs") is None
        message = choice["message"]
        messages.append(message)
        if not message.get("tool_calls"):
            break
        looked = True
        messages += [{"role": "tool", "tool_call_id": c["id"], "content": colour} for c in message["tool_calls"]]
    return looked, message.get("content") or ""


def rollouts(store: odograph.Store, proxy: Proxy, iteration: int, attempts: int) -> float:
    """Each task several times, two agents at once; their rewards are added to what the proxy recorded."""
    rewards: list[float] = []

    def one(colour: str, n: int) -> None:
        run = f"{iteration}-{colour}-{n}"
        url = proxy.rollout(run, group=f"{iteration}-{colour}", task="which colour", tags=[f"iteration-{iteration}"])
        looked, said = agent(url + "/v1", colour)
        words = said.split()
        reward = round(0.2 * looked + 0.7 * (words[:1] == [colour]) + 0.1 * (words == [colour]), 3)
        id = proxy.end(run)
        assert id is not None
        store.append(id).reward(reward, name="colour", source="function")
        rewards.append(reward)

    for colour in COLOURS:
        for n in range(0, attempts, 2):
            pair = [threading.Thread(target=one, args=(colour, n + k)) for k in range(2)]
            for thread in pair:
                thread.start()
            for thread in pair:
                thread.join()
    assert len(rewards) == len(COLOURS) * attempts
    return sum(rewards) / len(rewards)


def learn(tmp_path: Path, iterations: int, attempts: int) -> tuple[list[float], list[float], odograph.Store]:
    """The rewards of each iteration, and how far the model's own logprobs were from the recorded ones."""
    torch.set_num_threads(1)
    model, tokenizer = make_model(0), make_tokenizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    means: list[float] = []
    gaps: list[float] = []
    store = odograph.open(tmp_path / "store")
    with ModelServer(model, tokenizer, seed=0) as server, Proxy(store, [server.url], tokens=True, policy=0) as proxy:
        for iteration in range(iterations):
            means.append(rollouts(store, proxy, iteration, attempts))
            assert proxy.drain(10)
            rows = odograph.samples(
                store.trajectories(tag=f"iteration-{iteration}"), edits="env", advantage="grpo", logprobs=True
            )
            gaps.append(train(model, tokenizer, list(rows), optimizer, tmp_path))
            assert rows.report.trained > 0
            proxy.resume(policy=iteration + 1)
    return means, gaps, store


def test_samples_are_made_of_what_the_proxy_recorded(tmp_path: Path) -> None:
    """Rollouts at the proxy are rows: the trainer sees the very tokens and logprobs that were sampled, and the agent none of them."""
    _, gaps, store = learn(tmp_path, 2, 4)
    assert max(gaps) <= 1e-4
    found = list(store.trajectories())
    assert len(found) == 2 * 4 * len(COLOURS) and all(t.status == "completed" and t.reward is not None for t in found)
    assert {c.policy_version for t in found for c in t.llm_calls} == {0, 1}
    assert all(c.origin == "wire" and c.prompt_token_ids and c.choices[0].token_ids for t in found for c in t.llm_calls)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_policy_learns_through_the_proxy(tmp_path: Path) -> None:
    """GRPO on what the proxy recorded: the agents' mean reward rises."""
    means, gaps, _ = learn(tmp_path, 16, 8)
    assert max(gaps) <= 1e-4
    assert sum(means[-3:]) / 3 > means[0] + 0.3, means
