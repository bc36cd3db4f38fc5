"""The same agent under verifiers: verifiers' own environment, train client, trace and rewards, on CPU.

    python -m examples.grpo_cpu.with_verifiers --out verifiers-cpu

The environment runs as prime-rl runs it: a rollout is a trace, whose branches hold token ids, mask and logprobs. prime-rl itself
wants a GPU: the loop of `learning.py` takes the gradient, with prime-rl's advantages and loss.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import verifiers.v1 as vf
from torch.nn.utils.rnn import pad_sequence
from verifiers.v1.utils.loaders import load_environment, resolve_env_config

from odograph.runtime.template import Template

from .learning import Batch, learn

sys.path.append(str(Path(__file__).parent))  # where verifiers finds the taskset: `colours.py`


async def rollouts(url: str, template: Template, attempts: int) -> tuple[list[float], Batch]:
    """Episodes of each task, run by verifiers' environment; a row for each branch of their traces."""
    env = load_environment(resolve_env_config({"taskset": {"id": "colours"}, "agent": {"runtime": {"type": "subprocess"}}}))
    with tempfile.TemporaryDirectory() as folder:
        template.tokenizer.save_pretrained(folder)  # verifiers loads it
        renderer = {"name": "custom", "import_path": "colours.Words"}
        client = vf.TrainClientConfig(base_url=url, renderer=renderer, renderer_model_name=folder)
        context = vf.ModelContext("tiny", client, vf.Sampling(temperature=1.0, max_tokens=3))
        async with env.serving():
            alone = asyncio.Semaphore(1)  # in order, so that a seed says it all
            slots = [env.slots(task, attempts) for task in env.taskset]
            groups = await asyncio.gather(*(asyncio.gather(*(env.run_slot(s, context, alone) for s in of)) for of in slots))
    rewards, rows = [], []
    for episodes in groups:
        traces = [trace for episode in episodes for trace in episode.traces]
        mean = sum(t.reward for t in traces) / len(traces)
        for trace in traces:
            rewards.append(trace.reward)
            for branch in trace.branches:
                advantage = trace.reward - mean
                rows.append((branch.token_ids, branch.sampled_mask, branch.logprobs, [advantage] * len(branch.token_ids)))
    names = ("tokens", "assistant_mask", "logprobs", "advantages")
    return rewards, {n: pad_sequence([*map(torch.tensor, v)], True) for n, v in zip(names, zip(*rows, strict=True), strict=True)}


def loss(batch: Batch, logprobs: torch.Tensor) -> torch.Tensor:
    """prime-rl's: the advantage by the ratio of the probabilities, over the mean of the sampled tokens. Its trust region and its
    distance from the old policy are 0 with one step a batch."""
    ratio = torch.exp(logprobs[:, :-1] - batch["logprobs"][:, 1:])
    mask: Any = batch["assistant_mask"][:, 1:]
    return -(ratio * batch["advantages"][:, 1:])[mask].mean()


if __name__ == "__main__":
    learn(rollouts, loss)
