"""From agents that trade to a dataset: record, wait a week, score, validate, export, load, and say what would train."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import odograph

from .market import RESOLVES_AFTER, Exchange
from .model import TradingModel
from .trader import trader

ROOT = Path(__file__).parent.parent.parent


async def trade(store: Any, exchange: Exchange, url: str, model: str, attempts: int) -> None:
    """A day: several attempts at the same markets, which are a group."""
    buy_shares = trader(exchange, url, model)

    async def attempt(number: int) -> None:
        task = f"day {exchange.day}: invest in one of today's markets"
        try:
            with store.record(task=task, agent="trader", model=model, group=f"day-{exchange.day}", tags=["trading"]) as run:
                with run.step():
                    bought = await buy_shares(seed=number)
                run.finish(f"{bought['side']} on {bought['market']}")
        except Exception as error:  # as the action raised it; it is on record, and the trajectory is failed
            print(f"  day {exchange.day}, attempt {number}: {type(error).__name__}: {error}")

    await asyncio.gather(*(attempt(n) for n in range(attempts)))


def odograph_(out: Path, *words: str) -> int:
    """A command, as a user would type it: in a process of its own."""
    print(f"\n$ odograph {shlex.join(words)}", flush=True)
    env = {**os.environ, "ODOGRAPH_STORE": str(out / "store"), "TRADING_EXCHANGE": str(out / "exchange.json")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))  # so that `examples` is found
    return subprocess.run([sys.executable, "-m", "odograph", *words], env=env, check=False).returncode


def main() -> int:
    """The example; exit status 0 where every command did what it should."""
    parser = argparse.ArgumentParser(prog="python -m examples.trading", description=__doc__)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--attempts", type=int, default=4, help="at each day's markets")
    parser.add_argument("--out", type=Path, default=Path("trading"), help="a folder; it must not exist")
    parser.add_argument("--base-url", help="an OpenAI-compatible endpoint; without it a model of the example decides")
    parser.add_argument("--model", default="trader-1")
    parser.add_argument("--upload", metavar="ORG/NAME", help="put the dataset on the Hugging Face Hub, as $HF_TOKEN")
    asked = parser.parse_args()
    if asked.out.exists():
        parser.error(f"{str(asked.out)!r} is there already; name another --out")
    asked.out.mkdir(parents=True)

    exchange = Exchange(asked.out / "exchange.json")
    asked.out = asked.out.resolve()
    with odograph.open(asked.out / "store") as store, nullcontext() if asked.base_url else TradingModel() as local:
        for _ in range(asked.days):
            asyncio.run(trade(store, exchange, asked.base_url or local.url, asked.model, asked.attempts))
            exchange.wait(1)
    codes = []
    for _ in range(2):  # what resolved in the meantime; the rest a week later, when what has a reward is left alone
        for name in ("trading_performance", "multi_factor_trading"):
            codes.append(odograph_(asked.out, "score", f"examples.trading.rewards:{name}"))
        exchange.wait(RESOLVES_AFTER)
    codes.append(odograph_(asked.out, "stats", "--by", "tag"))
    codes.append(odograph_(asked.out, "validate", "--profile", "sft"))
    codes.append(odograph_(asked.out, "train", "--dry-run"))

    with odograph.open(asked.out / "store") as store:
        dataset = odograph.export_to_huggingface(
            store, asked.out / "dataset", min_reward=0.5, max_trajectories=1000, time_range="7d", format="parquet"
        )
    print(f"\n{dataset}")
    if not dataset.manifest["rows"]:
        print("nothing earned 0.5 or more: there is no row to load; more --days or --attempts may")
        return max(codes)
    from datasets import load_dataset

    rows = load_dataset(str(dataset.path), split="train")
    print(f"loaded with datasets: {rows.num_rows} rows of {', '.join(rows.column_names)}, rewards to {max(rows['reward']):.2f}")
    if asked.upload:
        print(dataset.upload(asked.upload))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
