"""`odograph.online` under the name of training: rollouts for trainers that call agents.

The room itself stands above the runtime, which it needs; this file loads it when a name is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_NAMES = ("ChatServer", "Generated", "rollout", "rollouts", "sync_rollouts")


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(_NAMES)}")
    return getattr(import_module("odograph.online"), name)


def __dir__() -> list[str]:
    return list(_NAMES)
