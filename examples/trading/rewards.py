"""What a trade was worth. The outcome is known a week later: until then a reward is None, and is asked for again."""

from __future__ import annotations

import os
from pathlib import Path

import odograph

from .market import Exchange


def realized_pnl(t: odograph.Trajectory) -> float | None:
    """What the trajectory's trade has earned: None while its market is open, 0 where nothing was bought."""
    if not isinstance(t.result, dict):  # the exchange refused, and the action's exception is on record
        return 0.0
    return Exchange(Path(os.environ["TRADING_EXCHANGE"])).realized_pnl(t.result)


@odograph.reward(name="trading_performance")
def trading_performance(t: odograph.Trajectory) -> float | None:
    """Profit by stake; -0.5 for what earned nothing."""
    earned = realized_pnl(t)
    if earned is None:
        return None
    return earned / t.result["investment"] if earned > 0 else -0.5


@odograph.reward(name="multi_factor_trading", weight={"profit": 0.0, "speed": 0.0, "confidence": 0.0})  # beside the other
def multi_factor_trading(t: odograph.Trajectory) -> dict[str, float | None]:
    """Profit (half), speed and confidence (a quarter each), as components."""
    earned = realized_pnl(t)
    bought = t.result if isinstance(t.result, dict) else {}
    thinking = (t.llm_call.reasoning if t.llm_call else None) or ""
    return {
        "profit": None if earned is None else 0.5 * min(1.0, max(0.0, earned) / bought.get("investment", 1.0)),
        "speed": 0.25 * (bought.get("execution_ms", 1000.0) < 1000),
        "confidence": 0.25 * ("high confidence" in thinking),
    }
