"""The same agent under ART: ART's own `gather_trajectory_groups`, tokenisation, packing and loss, on CPU.

    python -m examples.grpo_cpu.with_art --out art-cpu

Only ART's backend, which wants a GPU, is not used: the loop of `learning.py` takes the gradient.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import art
import torch
from art.loss import loss_fn
from art.preprocessing.pack import packed_tensors_from_tokenized_results
from art.preprocessing.tokenize import tokenize_trajectory_groups
from transformers import masking_utils

from odograph.online.art import trajectory
from odograph.runtime.template import Template

from .learning import Batch, learn
from .looker import looks, worth
from .policy import COLOURS

importlib.reload(masking_utils)  # importing ART puts a function there that today's transformers can't call


async def rollouts(url: str, template: Template, attempts: int) -> tuple[list[float], Batch]:
    """A group for each colour, gathered by ART, and the tensors that ART packs of them."""
    model = art.Model(
        name="looker", project="odograph", inference_base_url=url, inference_api_key="none", inference_model_name="tiny"
    )
    alone = asyncio.Semaphore(1)  # in order, so that a seed says it all

    async def one(colour: str) -> art.Trajectory:
        async with alone:
            return await trajectory(looks, model, colour, reward=worth)

    groups = await art.gather_trajectory_groups(
        [art.TrajectoryGroup(one(colour) for _ in range(attempts)) for colour in COLOURS], pbar_desc=None
    )
    rows = list(tokenize_trajectory_groups(template.tokenizer, groups, allow_training_without_logprobs=False, scale_rewards=True))
    packed = packed_tensors_from_tokenized_results(rows, 32, pad_token_id=template.tokenizer.pad_token_id, pack_results=False)
    return [t.reward for group in groups for t in group], packed


def loss(batch: Any, logprobs: torch.Tensor) -> torch.Tensor:
    """ART's own, with its settings as they are by default."""
    return loss_fn(batch, logprobs, None, None, {}).policy_loss


if __name__ == "__main__":
    learn(rollouts, loss)
