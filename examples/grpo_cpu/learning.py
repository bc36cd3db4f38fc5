"""A policy-gradient loop on CPU around any trainer's rollouts: the trainer's classes ask the agent, the loop takes the gradient.

ART and verifiers train on GPUs. What their rollouts return trains here, by the same loop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import types
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is to be had from anywhere

import torch

from odograph.online import ChatServer
from odograph.online.trl import generating
from odograph.runtime.template import Template

from .looker import make_template
from .policy import make_model

#: Tensors [rows, length], padded on the right: `tokens`, which are trained (`assistant_mask`), and the `logprobs` of these.
Batch = dict[str, Any]
#: `rollouts(base URL, template, rollouts of each task)` -> the rewards, and the batch that the trainer makes of them.
Rollouts = Callable[[str, Template, int], Awaitable[tuple[list[float], Batch]]]
#: `loss(batch, logprobs)`: the logprobs at [row, t] are the model's own, of the token at t + 1.
Loss = Callable[[Batch, torch.Tensor], torch.Tensor]


class Words(Template):
    """All that was sampled is text, `<pad>` too: who makes tokens of the messages again, as ART does, makes the same ones."""

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids))


def learn(rollouts: Rollouts, loss: Loss, arguments: list[str] | None = None) -> None:
    """Trains the tiny model on a trainer's rollouts, and writes to `rewards.json` of each step the mean reward, and how far
    the model's logprobs are from the recorded ones at the worst token."""
    parser = argparse.ArgumentParser(description="Policy gradients on CPU, on rollouts of another trainer.")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--attempts", type=int, default=16, help="rollouts of each of the four tasks, a step: 2 or more")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the model is too small for more
    asked.out.mkdir(parents=True, exist_ok=True)
    model, template = make_model(asked.seed), make_template(Words)
    torch.manual_seed(asked.seed)
    random.seed(asked.seed)  # ART shuffles
    optimizer = torch.optim.AdamW(model.parameters(), lr=asked.learning_rate, weight_decay=0.0)
    engine = generating(model, template.tokenizer, types.SimpleNamespace(temperature=1.0), 3)
    history: list[dict[str, float]] = []
    os.environ["ODOGRAPH_STORE"] = str(asked.out / "store")  # where rollouts are recorded
    with ChatServer(engine, template) as server:
        for step in range(asked.steps):
            rewards, batch = asyncio.run(rollouts(server.url, template, asked.attempts))
            found = logprobs(model, batch["tokens"])
            gap = (found[:, :-1] - batch["logprobs"][:, 1:])[batch["assistant_mask"][:, 1:]].abs().max().item()
            history.append({"reward": sum(rewards) / len(rewards), "gap": gap})
            print(f"step {step}: mean reward {history[-1]['reward']:.3f}, {len(found)} rows, gap {gap:.1e}", flush=True)
            optimizer.zero_grad()
            loss(batch, found).backward()
            optimizer.step()
    (asked.out / "rewards.json").write_text(json.dumps(history))
    first, last = (sum(h["reward"] for h in part) / len(part) for part in (history[:3], history[-3:]))
    print(f"mean reward: {first:.3f} in the first 3 steps, {last:.3f} in the last 3")


def logprobs(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The model's logprobs: at [row, t] of the token at t + 1; 0 in the last column."""
    found = torch.log_softmax(model(tokens).logits[:, :-1].float(), -1).gather(-1, tokens[:, 1:, None])[..., 0]
    return torch.nn.functional.pad(found, (0, 1))
