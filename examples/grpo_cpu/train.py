"""A policy learns to look before it answers. On 2 cores, without network or GPU, in about two minutes.

    pip install 'odograph[run,train]' matplotlib
    python -m examples.grpo_cpu.train --out grpo-cpu

The task: "which colour", where the colour is only to be had from a tool. Each iteration asks the model behind its server, through
Odograph's runtime, which records every call with its token ids and logprobs; the rewards are recorded too. `samples` makes rows of it,
TRL takes GRPO steps on these very tokens, and the server's next answers are those of the trained model.
Writes `rewards.json`, `rewards.png` (where matplotlib is installed) and the store, which `odograph --store OUT/store ls` shows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is to be had from anywhere

import torch
from transformers import PrinterCallback
from trl import GRPOConfig

import odograph
from odograph import Agent, Runners, Task, TaskConfig
from odograph.training.replay_trainer import RecordedGRPOTrainer
from odograph.training.samples import Samples, samples

from .policy import COLOURS, LOOK, make_model, make_tokenizer
from .server import ModelServer


def looker(colour: str, url: str, iteration: int) -> Agent:
    """An agent that can look up the colour. All of them are one policy."""

    async def look() -> str:
        """Looks which colour it is."""
        return colour

    return Agent(
        name="looker",
        model="tiny",
        base_url=url,
        api_key="none",
        tools=[look],
        tokens=True,
        policy_version=iteration,
        max_steps=3,
    )


def worth(colour: str, response: Any) -> float:
    """From 0 to 1: 0.7 for the right colour as the first word of the answer, 0.1 for nothing but it, 0.2 for having looked."""
    looked = any(action.name == LOOK for action in response.recorded.actions)
    words = (response.answer or "").split()
    return round(0.2 * looked + 0.7 * (words[:1] == [colour]) + 0.1 * (words == [colour]), 3)


async def rollouts(store: Any, url: str, iteration: int, attempts: int) -> list[float]:
    """All tasks, several times each, recorded under the iteration's tag, and rewarded."""
    tasks = {
        colour: Task(
            input="which colour",
            agent=looker(colour, url, iteration),
            conf=TaskConfig(max_steps=3),
            id=f"{iteration}-{colour}",
            tags=[f"iteration-{iteration}"],
        )
        for colour in COLOURS
    }
    responses = await Runners.run_task(tasks.values(), store=store, attempts=attempts, max_concurrency=8)
    rewards: list[float] = []
    for colour, task in tasks.items():
        for response in responses[task.id]:
            rewards.append(worth(colour, response))
            response.reward(rewards[-1], name="colour", source="function")
    return rewards


def train(model: Any, tokenizer: Any, rows: Samples, optimizer: torch.optim.Optimizer, batch: int, out: Path) -> float:
    """One pass of GRPO over the rows; returns how far the model was from the recorded logprobs before it."""
    args = GRPOConfig(
        output_dir=str(out),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=batch,
        steps_per_generation=1,
        num_generations=2,
        num_train_epochs=1,
        temperature=1.0,  # what the server samples at
        beta=0.0,
        max_grad_norm=1.0,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    trainer = RecordedGRPOTrainer(model=model, args=args, rows=rows, processing_class=tokenizer, optimizers=(optimizer, constant))
    trainer.remove_callback(PrinterCallback)  # the table says it
    trainer.train()
    model.eval()
    return trainer.gaps[0]


def main(arguments: list[str] | None = None, say: Callable[[str], None] = print) -> int:
    """The loop. Exit status 0 where it learned, else 1."""
    parser = argparse.ArgumentParser(description="GRPO on CPU from recorded rollouts.")
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--attempts", type=int, default=16, help="rollouts of each of the tasks, an iteration")
    parser.add_argument("--batch", type=int, default=32, help="rows an optimizer step")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rise", type=float, default=0.25, help="by how much the mean reward has to rise, last 3 against first 3"
    )
    parser.add_argument("--out", type=Path, default=Path("grpo-cpu"))
    asked = parser.parse_args(arguments)

    torch.set_num_threads(1)  # the model is too small for more
    asked.out.mkdir(parents=True, exist_ok=True)
    model, tokenizer = make_model(asked.seed), make_tokenizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=asked.learning_rate, weight_decay=0.0)
    history: list[dict[str, float]] = []
    say(f"{'iteration':>9} {'reward':>7} {'rows':>5} {'trained tokens':>14} {'gap':>8} {'seconds':>8}")
    with odograph.open(asked.out / "store") as store, ModelServer(model, tokenizer, seed=asked.seed) as server:
        for iteration in range(asked.iterations):
            started = time.monotonic()
            rewards = asyncio.run(rollouts(store, server.url, iteration, asked.attempts))
            found = store.trajectories(tag=f"iteration-{iteration}")
            rows = samples(found, edits="env", advantage="grpo", logprobs=True)
            gap = train(model, tokenizer, rows, optimizer, asked.batch, asked.out)
            report = rows.report
            mean = sum(rewards) / len(rewards)
            seconds = time.monotonic() - started
            history.append({"reward": mean, "rows": report.rows, "trained": report.trained, "gap": gap, "seconds": seconds})
            say(f"{iteration:9} {mean:7.3f} {report.rows:5} {report.trained:14} {gap:8.1e} {seconds:8.1f}")
    first, last = (sum(h["reward"] for h in part) / len(part) for part in (history[:3], history[-3:]))
    learned = last - first >= asked.rise
    (asked.out / "rewards.json").write_text(json.dumps({"first": first, "last": last, "iterations": history}, indent=1))
    plot([h["reward"] for h in history], asked.out / "rewards.png")
    say(f"mean reward: {first:.3f} in the first 3 iterations, {last:.3f} in the last 3; at least {asked.rise} more was expected")
    return 0 if learned else 1


def plot(rewards: list[float], out: Path) -> None:
    """The curve, where there is something to draw it with."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5))
    axes.plot(range(len(rewards)), rewards, marker="o", markersize=3)
    axes.set(xlabel="iteration", ylabel="mean reward", ylim=(0, 1), title="GRPO on recorded rollouts")
    figure.tight_layout()
    figure.savefig(out, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
