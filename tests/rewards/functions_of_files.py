"""Reward functions as a user keeps them in a file."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import odograph
from odograph import rewards


@odograph.reward
def steps(t):
    return len(t.steps)


@odograph.reward(version="1")
def slow(t):
    """Says where it is, and takes its time; behind a number of trajectories, for ever."""
    path = Path(os.environ["SLOW_LOG"])
    with path.open("a") as log:
        log.write(f"{t.id}\n")
    while path.read_text().count("\n") >= int(os.environ.get("SLOW_MOST", "1000")):
        time.sleep(0.02)
    time.sleep(0.02)
    return {"first": 0.25, "second": 0.5}


@odograph.reward
async def later(t):
    await asyncio.sleep(0)
    return 1.0


@odograph.reward
def dies(t):
    os._exit(3)


half_of_steps = rewards.scale(steps, 0.5, name="half_of_steps")
