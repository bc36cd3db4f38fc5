"""The same policy, trained by TRL's own loop: `GRPOTrainer` calls an agent by `rollout_func`, and trains on its rows.

    python -m examples.grpo_cpu.online --steps 30

The agent has a tool, and edits: of an answer that asks for the tool, it keeps the first word. The model is asked in the trainer's
process, behind a server on the loopback that takes and gives token ids, so the edited ids are what the model sees next.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

import odograph
from odograph.online import trl

from .looker import looks, make_template, worth
from .policy import COLOURS, make_model


def main(arguments: list[str] | None = None) -> None:
    """Trains, and writes the mean reward of each step to `rewards.json`."""
    parser = argparse.ArgumentParser(description="GRPO on CPU, TRL calls the agent.")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("grpo-online"))
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(asked.seed)
    asked.out.mkdir(parents=True, exist_ok=True)
    model, template = make_model(asked.seed), make_template()
    history: list[float] = []

    def rewards(completions: list[Any], **fields: Any) -> list[float | None]:
        found = trl.reward(completions, **fields)
        known = [r for r in found if r is not None]
        history.append(sum(known) / max(1, len(known)))
        return found

    args = GRPOConfig(
        output_dir=str(asked.out),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=32,
        num_generations=8,
        max_steps=asked.steps,
        max_completion_length=32,
        learning_rate=2e-3,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        temperature=1.0,
        beta=0.0,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        seed=asked.seed,
    )
    with odograph.open(asked.out / "store") as store:
        rollout = trl.rollout_func(
            lambda colour: looks(colour, template), reward=worth, store=store, max_tokens=3, max_concurrency=1, tokenizer=template
        )
        data = Dataset.from_list([{"prompt": c} for c in COLOURS])
        trainer = GRPOTrainer(
            model=model,
            args=args,
            train_dataset=data,
            processing_class=template.tokenizer,
            reward_funcs=[rewards],
            rollout_func=rollout,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    (asked.out / "rewards.json").write_text(json.dumps(history))
    first, last = (sum(part) / len(part) for part in (history[:3], history[-3:]))
    print(f"mean reward: {first:.3f} in the first 3 steps, {last:.3f} in the last 3")


if __name__ == "__main__":
    main()
