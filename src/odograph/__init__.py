"""Odograph: the system of record for the trajectories of LLM agents."""

TYPE_CHECKING = False  # as type checkers know it; `typing` alone costs as much as Python itself
if TYPE_CHECKING:
    from .api import Store, open, score
    from .calls import Call
    from .capture.decorators import action, context, edit, log_context, log_llm_call, wrap_action
    from .capture.entering import bind
    from .capture.faults import Health
    from .capture.instrument import instrument, uninstrument
    from .capture.recorder import CallRef
    from .capture.run import Run
    from .capture.scope import Scope, Step, current
    from .capture.wrap import wrap
    from .differences import diff
    from .errors import InvalidInput, MissingExtra, NewerStore, NotFound, OdographError, RunError, StoreError, UploadError
    from .groups import Group, Groups
    from .hub import Dataset, export_to_huggingface
    from .importers.importing import ImportReport
    from .judge import Answer, Budget, Judge, Judgement, Judgements, ruler, sync_ruler
    from .log import logger
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
    from .store.filters import FilterArgs
    from .training.feed import rows
    from .training.sample import Conservation, Pair, Sample
    from .training.samples import Samples, samples
    from .trajectory import Trajectory
    from .types import VERSION, Fork, Kept, Literal, Span
    from .viewer.notebook import show

    __version__ = VERSION

#: Where the names are that this package offers. A name is loaded when it is asked for first.
_PARTS = {
    "api": "Store open score",
    "calls": "Call",
    "capture.decorators": "action context edit log_context log_llm_call wrap_action",
    "capture.entering": "bind",
    "capture.faults": "Health",
    "capture.instrument": "instrument uninstrument",
    "capture.recorder": "CallRef",
    "capture.run": "Run",
    "capture.scope": "Scope Step current",
    "capture.wrap": "wrap",
    "differences": "diff",
    "errors": "InvalidInput MissingExtra NewerStore NotFound OdographError RunError StoreError UploadError",
    "groups": "Group Groups",
    "hub": "Dataset export_to_huggingface",
    "importers.importing": "ImportReport",
    "judge": "Answer Budget Judge Judgement Judgements ruler sync_ruler",
    "log": "logger",
    "quality": "Finding Report validate validate_trajectory",
    "rewards.functions": "RewardFunction reward reward_function",
    "rewards.scoring": "ScoreReport",
    "runtime": "Agent AnyAgent Divergence Event FunctionAgent GymAgent MCPServer Outcome Replay Runners Task TaskConfig"
    " TaskResponse TaskRunMode ToolContext fork replay",
    "statistics": "Stats stats",
    "statistics.compared": "Compared",
    "statistics.comparison": "compare",
    "store.filters": "FilterArgs",
    "training.feed": "rows",
    "training.sample": "Conservation Pair Sample",
    "training.samples": "Samples samples",
    "trajectory": "Trajectory",
    "types": "VERSION Fork Kept Literal Span",
    "viewer.notebook": "show",
}


if not TYPE_CHECKING:  # a type checker would take any name for one of these
    from _thread import get_ident
    from sys import modules

    #: The threads that import a part now: what interrupts one of them finds parts that are not whole.
    _importing = set()

    def __getattr__(name):
        wanted = "VERSION" if name == "__version__" else name
        part = next((part for part, names in _PARTS.items() if wanted in names.split()), None)
        if part is None:
            raise AttributeError(f"module 'odograph' has no attribute {name!r}")
        me = get_ident()
        if me in _importing:
            found = getattr(modules.get(f"{__name__}.{part}"), wanted, None)
            if found is not None:
                return found
            raise AttributeError(
                f"odograph.{name} was asked for in the middle of the first import of its parts, by the handler of a signal, of a"
                f" log record or of imports: name odograph.{name} once before the handler is set"
            )
        _importing.add(me)
        try:
            from importlib import import_module

            import_module(".api", __name__)  # it fills the slot for calls that are made outside of any run
            found = globals()[name] = getattr(import_module(f".{part}", __name__), wanted)
        finally:
            _importing.discard(me)
        return found

    def __dir__():
        return sorted({*globals(), *__all__})


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
    "Health",
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
