"""Odograph: the system of record for the trajectories of LLM agents."""

from __future__ import annotations

from .api import ImportReport, Store, open
from .capture.decorators import action, context, log_context, log_llm_call, wrap_action
from .capture.recorder import CallRef, Run, Scope, Step
from .capture.scope import bind, current
from .capture.wrap import wrap
from .errors import InvalidInput, MissingExtra, NewerStore, NotFound, OdographError, StoreError
from .quality import Finding, Report, validate
from .trajectory import Call, Trajectory
from .types import VERSION, Fork, Kept, Literal, Span

__version__ = VERSION

__all__ = [
    "Call",
    "CallRef",
    "Finding",
    "Fork",
    "ImportReport",
    "InvalidInput",
    "Kept",
    "Literal",
    "MissingExtra",
    "NewerStore",
    "NotFound",
    "OdographError",
    "Report",
    "Run",
    "Scope",
    "Span",
    "Step",
    "Store",
    "StoreError",
    "Trajectory",
    "action",
    "bind",
    "context",
    "current",
    "log_context",
    "log_llm_call",
    "open",
    "validate",
    "wrap",
    "wrap_action",
]
