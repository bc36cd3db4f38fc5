"""Pairs for TRL's `RewardTrainer`: `prompt`, `chosen` and `rejected` as messages. The rows are those of `trl-dpo`.

Source: https://huggingface.co/docs/trl/reward_trainer (trl 1.16).
"""

from __future__ import annotations

from . import trl_dpo

NAME = "trl-reward"
FILES = trl_dpo.FILES
PLAN = trl_dpo.PLAN
REFUSES = dict.fromkeys(trl_dpo.REFUSES, "a reward model is trained on pairs")
lines = trl_dpo.lines
