"""Models that judge: the client that asks them (`Judge`), and RULER and rubric scores of trajectories (`ruler`).

The client stands in `odograph.asking`: prompts go in, checked values come out, and no answer is paid twice.
"""

from __future__ import annotations

from ..asking.answer import Answer
from ..asking.budget import Budget
from ..asking.client import Judge
from .judging import Judgement, Judgements, ruler, sync_ruler

__all__ = ["Answer", "Budget", "Judge", "Judgement", "Judgements", "ruler", "sync_ruler"]
