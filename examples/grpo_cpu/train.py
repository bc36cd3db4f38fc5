"""A policy learns to look before it answers: GRPO on CPU in about a minute, without network.

    pip install 'odograph[run,train,plot]'
    python -m examples.grpo_cpu.train --out grpo-cpu

The task is "which colour", and only a tool knows. In each iteration agents ask the model behind its server; Odograph's runtime
records every call with its token ids and logprobs, and the rewards; `odograph.samples` makes rows of that, TRL takes a GRPO step
on these very tokens, and the server's next answers are those of the trained model.

Writes `rewards.json`, `rewards.png` and the store, which `odograph --store grpo-cpu/store ls` shows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is to be had from anywhere

import torch
from transformers import PrinterCallback
from trl import GRPOConfig

import odograph
from odograph import Agent, Runners, Task
from odograph.training.replay_trainer import RecordedGRPOTrainer

from .policy import COLOURS, LOOK, make_model, make_tokenizer
from .server import ModelServer


def looker(colour: str, url: str, iteration: int) -> Agent:
    """An agent that can look up the colour. All of them are one policy."""

    async def look() -> str:
        """Looks which colour it is."""
        return colour

    about = {"name": "looker", "model": "tiny", "base_url": url, "api_key": "none", "policy_version": iteration}
    return Agent(**about, tools=[look], tokens=True, max_steps=3)


def worth(colour: str, response: Any) -> float:
    """From 0 to 1: 0.7 for the right colour as the first word of the answer, 0.1 for nothing but it, 0.2 for having looked."""
    looked = any(action.name == LOOK for action in response.recorded.actions)
    words = (response.answer or "").split()
    return round(0.2 * looked + 0.7 * (words[:1] == [colour]) + 0.1 * (words == [colour]), 3)


async def rollouts(store: odograph.Store, url: str, iteration: int, attempts: int) -> float:
    """All tasks, several times each, recorded under the iteration's tag and rewarded; returns the mean reward."""
    tag = f"iteration-{iteration}"
    tasks = [Task(input="which colour", agent=looker(c, url, iteration), id=f"{iteration}-{c}", tags=[tag]) for c in COLOURS]
    found = await Runners.run_task(
        tasks, store=store, attempts=attempts, max_concurrency=1
    )  # in order, so that a seed says it all
    rewards = []
    for colour, task in zip(COLOURS, tasks, strict=True):
        for response in found[task.id]:
            rewards.append(worth(colour, response))
            response.reward(rewards[-1], name="colour", source="function")
    return sum(rewards) / len(rewards)


def train(model: Any, tokenizer: Any, rows: list[Any], optimizer: torch.optim.Optimizer, out: Path) -> float:
    """One GRPO step on all rows; returns how far the model's own logprobs were from the recorded ones, at the worst token."""
    args = GRPOConfig(
        output_dir=str(out),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=len(rows) + len(rows) % 2,
        steps_per_generation=1,
        num_generations=2,  # TRL wants it to divide the batch; nothing is generated
        num_train_epochs=1,
        temperature=1.0,  # what the server samples at
        beta=0.0,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    trainer = RecordedGRPOTrainer(model=model, args=args, rows=rows, processing_class=tokenizer, optimizers=(optimizer, constant))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    model.eval()
    return max(trainer.gaps)


def main() -> None:
    """The loop."""
    parser = argparse.ArgumentParser(description="GRPO on CPU from recorded rollouts.")
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--attempts", type=int, default=16, help="rollouts of each of the four tasks, an iteration: 2 or more")
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("grpo-cpu"))
    asked = parser.parse_args()

    torch.set_num_threads(1)  # the model is too small for more
    asked.out.mkdir(parents=True, exist_ok=True)
    model, tokenizer = make_model(asked.seed), make_tokenizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=asked.learning_rate, weight_decay=0.0)
    history: list[dict[str, float]] = []
    print("iteration  reward  rows  trained tokens      gap  seconds")
    with odograph.open(asked.out / "store") as store, ModelServer(model, tokenizer, seed=asked.seed) as server:
        for iteration in range(asked.iterations):
            started = time.monotonic()
            reward = asyncio.run(rollouts(store, server.url, iteration, asked.attempts))
            found = store.trajectories(tag=f"iteration-{iteration}")
            rows = odograph.samples(found, edits="env", advantage="grpo", logprobs=True)
            gap = train(model, tokenizer, list(rows), optimizer, asked.out)
            seconds, report = time.monotonic() - started, rows.report
            history.append({"reward": reward, "rows": report.rows, "trained": report.trained, "gap": gap, "seconds": seconds})
            print(f"{iteration:9}  {reward:6.3f}  {report.rows:4}  {report.trained:14}  {gap:7.1e}  {seconds:7.1f}", flush=True)
    (asked.out / "rewards.json").write_text(json.dumps(history, indent=1))
    plot([h["reward"] for h in history], asked.out / "rewards.png")
    first, last = (sum(h["reward"] for h in part) / len(part) for part in (history[:3], history[-3:]))
    print(f"mean reward: {first:.3f} in the first 3 iterations, {last:.3f} in the last 3")


def plot(rewards: list[float], out: Path) -> None:
    """The curve, where there is something to draw it with."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: it needs the extra 'plot': pip install 'odograph[plot]'")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="tight")
    axes.plot(rewards, marker="o", markersize=3)
    axes.set(xlabel="iteration", ylabel="mean reward", ylim=(0, 1), title="GRPO on recorded rollouts")
    figure.savefig(out, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
