"""Trains a model with ART (openpipe-art 0.5.18) on the groups of a store. Needs a GPU.

    pip install odograph 'openpipe-art[backend]==0.5.18'
    odograph --store runs train --dry-run --to art         # which groups would train, and why not the others
    python -m examples.art_train.train --store runs --model Qwen/Qwen2.5-0.5B-Instruct

The calls that are trained need token ids and logprobs (`wrap(client, tokens=True)`, or an `Agent` with `tokens=True`), sampled by
the very model that is trained: ART learns from the ratio of its probabilities to the recorded ones. So record with the
model that ART serves, train once on what was recorded, and record again; older rollouts are off-policy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import odograph
from odograph.training.formats.art import group


def groups_of(store: odograph.Store, folder: Path, **filters: Any) -> Iterator[Any]:
    """The `art.TrajectoryGroup`s of a store from which ART can learn; the others are named on stderr."""
    for plan in store.dry_run("art", **filters):
        if not plan.trains:
            print(f"not trained: {plan.group or plan.members[0].trajectory}: {plan.why}", file=sys.stderr)
    store.export(folder, "art", **filters)
    file = folder / "data" / "train.jsonl"
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        found = group(json.loads(line))
        if len({t.reward for t in found.trajectories}) > 1:
            yield found


async def train(
    store: odograph.Store, backend: Any, *, model: str, name: str, rate: float, batch: int, **filters: Any
) -> list[Any]:
    """A step of training for each `batch` groups; returns ART's results (`step`, `metrics`, `checkpoint_path`)."""
    import art

    with tempfile.TemporaryDirectory() as folder:
        groups = list(groups_of(store, Path(folder) / "art", **filters))
    if not groups:
        raise odograph.InvalidInput("no group would train; `odograph train --dry-run` says why")
    trained = art.TrainableModel(name=name, project="odograph", base_model=model)
    await trained.register(backend)
    results = []
    for start in range(0, len(groups), batch):
        part = groups[start : start + batch]
        result = await backend.train(trained, part, learning_rate=rate)
        await trained.log(part, split="train", metrics=result.metrics, step=result.step)
        rewards = [t.reward for g in part for t in g.trajectories]
        print(f"step {result.step}: {len(part)} groups, mean reward {sum(rewards) / len(rewards):.3f}, {result.checkpoint_path}")
        results.append(result)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", default="odograph", help="the store")
    parser.add_argument(
        "--model", default="Qwen/Qwen2.5-0.5B-Instruct", help="the model that is trained, and sampled what was recorded"
    )
    parser.add_argument("--name", default="odograph-agent", help="of the trained model")
    parser.add_argument("--group", help="this group alone")
    parser.add_argument("--since", default=None, help="what was recorded within a length of time such as 7d")
    parser.add_argument("--batch", type=int, default=8, help="groups of one step")
    parser.add_argument("--learning-rate", type=float, default=5e-6)
    parser.add_argument("--path", default=".art", help="where ART keeps checkpoints and logs")
    args = parser.parse_args()
    try:
        import art  # noqa: F401
        import torch
        from art.local import LocalBackend
    except ImportError as error:
        print(f"ART can't be imported ({error}): pip install 'openpipe-art[backend]==0.5.18'", file=sys.stderr)
        return 1
    if not torch.cuda.is_available():
        print("no GPU: ART trains on one; `odograph train --dry-run` shows what would train", file=sys.stderr)
        return 1
    if not Path(args.store).is_dir():
        print(f"no store at {args.store!r}", file=sys.stderr)
        return 1
    filters = {k: v for k, v in (("group", args.group), ("time_range", args.since)) if v is not None}

    async def run() -> None:
        async with LocalBackend(path=args.path) as backend:
            await train(store, backend, model=args.model, name=args.name, rate=args.learning_rate, batch=args.batch, **filters)

    with odograph.open(args.store) as store:
        try:
            asyncio.run(run())
        except odograph.OdographError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
