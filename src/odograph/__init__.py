"""Odograph: the system of record for the trajectories of LLM agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .api import Store, open, score
from .capture.decorators import action, context, edit, log_context, log_llm_call, wrap_action
from .capture.instrument import instrument, uninstrument
from .capture.recorder import CallRef
from .capture.run import Run
from .capture.scope import Scope, Step, bind, current
from .capture.wrap import wrap
from .errors import InvalidInput, MissingExtra, NewerStore, NotFound, OdographError, RunError, StoreError, UploadError
from .log import logger
from .store.filters import FilterArgs
from .trajectory import Call, Trajectory
from .types import VERSION, Fork, Kept, Literal, Span

if TYPE_CHECKING:
    from .differences import diff
    from .groups import Group, Groups
    from .hub import Dataset, export_to_huggingface
    from .importers.importing import ImportReport
    from .judge import Answer, Budget, Judge, Judgement, Judgements, ruler, sync_ruler
    from .quality import Finding, Report, validate, validate_trajectory
    from .rewards.functions import RewardFunction, reward, reward_function
    from .rewards.scoring import ScoreReport
    from .runtime import (
        Agent,
        AnyAgent,
        Divergence,
        Event,
        FunctionAgent,
        GymAgent,
        MCPServer,
        Outcome,
        Replay,
        Runners,
        Task,
        TaskConfig,
        TaskResponse,
        TaskRunMode,
        ToolContext,
        fork,
        replay,
    )
    from .statistics import Stats, stats
    from .statistics.compared import Compared
    from .statistics.comparison import compare
    from .training.feed import rows
    from .training.sample import Conservation, Pair, Sample
    from .training.samples import Samples, samples
    from .viewer.notebook import show

__version__ = VERSION

#: Loaded when they are asked for: who only records needs neither asyncio nor an agent.
_LATER = {
    "diff": "differences",
    "ImportReport": "importers.importing",
    **dict.fromkeys(("Finding", "Report", "validate", "validate_trajectory"), "quality"),
    **dict.fromkeys(("Answer", "Budget", "Judge", "Judgement", "Judgements", "ruler", "sync_ruler"), "judge"),
    **dict.fromkeys(("Stats", "stats"), "statistics"),
    "Compared": "statistics.compared",
    "compare": "statistics.comparison",
    **dict.fromkeys(("Dataset", "export_to_huggingface"), "hub"),
    **dict.fromkeys(("RewardFunction", "reward", "reward_function"), "rewards.functions"),
    "ScoreReport": "rewards.scoring",
    "rows": "training.feed",
    "show": "viewer.notebook",
    **dict.fromkeys(("Conservation", "Pair", "Sample"), "training.sample"),
    **dict.fromkeys(("Group", "Groups"), "groups"),
    **dict.fromkeys(("Samples", "samples"), "training.samples"),
    **dict.fromkeys(
        (
            "Agent",
            "AnyAgent",
            "Divergence",
            "Event",
            "FunctionAgent",
            "GymAgent",
            "MCPServer",
            "Outcome",
            "Replay",
            "Runners",
            "Task",
            "TaskConfig",
            "TaskResponse",
            "TaskRunMode",
            "ToolContext",
            "fork",
            "replay",
        ),
        "runtime",
    ),
}


if not TYPE_CHECKING:  # a type checker would take any name for one of these

    def __getattr__(name: str) -> Any:
        module = _LATER.get(name)
        if module is None:
            raise AttributeError(f"module 'odograph' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f".{module}", __name__), name)


__all__ = [
    "Agent",
    "Answer",
    "AnyAgent",
    "Budget",
    "Call",
    "CallRef",
    "Compared",
    "Conservation",
    "Dataset",
    "Divergence",
    "Event",
    "FilterArgs",
    "Finding",
    "Fork",
    "FunctionAgent",
    "Group",
    "Groups",
    "GymAgent",
    "ImportReport",
    "InvalidInput",
    "Judge",
    "Judgement",
    "Judgements",
    "Kept",
    "Literal",
    "MCPServer",
    "MissingExtra",
    "NewerStore",
    "NotFound",
    "OdographError",
    "Outcome",
    "Pair",
    "Replay",
    "Report",
    "RewardFunction",
    "Run",
    "RunError",
    "Runners",
    "Sample",
    "Samples",
    "Scope",
    "ScoreReport",
    "Span",
    "Stats",
    "Step",
    "Store",
    "StoreError",
    "Task",
    "TaskConfig",
    "TaskResponse",
    "TaskRunMode",
    "ToolContext",
    "Trajectory",
    "UploadError",
    "action",
    "bind",
    "compare",
    "context",
    "current",
    "diff",
    "edit",
    "export_to_huggingface",
    "fork",
    "instrument",
    "log_context",
    "log_llm_call",
    "logger",
    "open",
    "replay",
    "reward",
    "reward_function",
    "rows",
    "ruler",
    "samples",
    "score",
    "show",
    "stats",
    "sync_ruler",
    "uninstrument",
    "validate",
    "validate_trajectory",
    "wrap",
    "wrap_action",
]
