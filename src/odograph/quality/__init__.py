"""`validate`: what is wrong with a trajectory before anybody trains on it or trusts it.

A check is a generator from a `Look` to (path, message) under `@check(code, severity, finds)`. The built-in checks of one
trajectory are the modules of `checks/`; those of many trajectories are in `across`, of damaged files in `damage`, of exports
in `exported`. A file or a package brings more (`known`). Codes are what people write in configuration: they never change.
"""

from __future__ import annotations

from .checking import Checker, collect, validate, validate_all, validate_trajectory
from .damage import damage_findings
from .define import PROFILES, Check, Found, check
from .known import CHECKS, known
from .look import Look
from .report import Finding, Report

__all__ = [
    "CHECKS",
    "PROFILES",
    "Check",
    "Checker",
    "Finding",
    "Found",
    "Look",
    "Report",
    "check",
    "collect",
    "damage_findings",
    "known",
    "validate",
    "validate_all",
    "validate_trajectory",
]
