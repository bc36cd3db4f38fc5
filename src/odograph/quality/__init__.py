"""`validate`: what is wrong with a trajectory before anybody trains on it or trusts it. The checks are in the modules beside.

A check is a generator from a `Look` to (path, message), or (path, message, severity) where that is not the check's own,
registered with its code, severity and profiles by `check`. Checks over many trajectories are in `across`, a store's processes
in `workers`.
Codes are what people write in configuration: they never change.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ..errors import InvalidInput
from ..lineage import tokenizer as adapted
from ..trajectory import Trajectory
from .across import Across, Facts, facts
from .look import Look

PROFILES = ("all", "basic", "sft", "rl")
_PATH = re.compile(r"\w+(?:\[\d+\])?(?:\.\w+(?:\[\d+\])?)*", re.ASCII)


#: What a check yields.
Found = Iterator[tuple[str, str] | tuple[str, str, str]]
Run = Callable[[Look], Found]


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong. `severity`: error (must not be trained on) or warning."""

    code: str
    severity: str
    path: str
    message: str
    trajectory: str | None


class Check(msgspec.Struct, frozen=True):
    """A check: what it is called, how bad what it finds is, and in which profiles it runs (`all` runs everything)."""

    code: str
    severity: str
    #: Profiles in which it runs.
    profiles: tuple[str, ...]
    #: Profiles in which a warning is an error.
    errors_in: tuple[str, ...]
    finds: str
    run: Run | None


CHECKS: dict[str, Check] = {}
_BASIC = ("basic", "sft", "rl")


def check(
    code: str, severity: str, finds: str, profiles: tuple[str, ...] = _BASIC, errors_in: tuple[str, ...] = ()
) -> Callable[[Run], Run]:
    """Registers a function as the check of a code."""

    def register(run: Run) -> Run:
        CHECKS[code] = Check(code, severity, profiles, errors_in, finds, run)
        return run

    return register


class Damaged(Protocol):
    """A line of a journal that can't be read."""

    @property
    def file(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def torn(self) -> bool: ...


class Report(msgspec.Struct):
    """What `validate` found."""

    findings: list[Finding] = []
    #: Trajectories that were looked at.
    checked: int = 0
    #: How many findings there are of each code, those too that `findings` has no room for.
    counts: dict[str, int] = {}
    error_count: int = 0
    #: How many findings of one code are kept: a store's report must fit into memory. None: all.
    most: int | None = None

    @property
    def valid(self) -> bool:
        """Whether there is no error; warnings are allowed."""
        return not self.error_count

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "warning"]

    @property
    def warning_count(self) -> int:
        return sum(self.counts.values()) - self.error_count

    def add(self, findings: Iterable[Finding], ignore: Iterable[str] = ()) -> None:
        """Takes more findings in, but those of ignored codes."""
        skip = set(ignore)
        for finding in findings:
            if finding.code in skip:
                continue
            count = self.counts[finding.code] = self.counts.get(finding.code, 0) + 1
            self.error_count += finding.severity == "error"
            if self.most is None or count <= self.most:
                self.findings.append(finding)

    def to_dict(self) -> dict[str, Any]:
        return {
            "valid": self.valid,
            "checked": self.checked,
            "counts": self.counts,
            "findings": [msgspec.structs.asdict(f) for f in self.findings],
        }


def validate(what: Any, *, profile: str = "all", ignore: Iterable[str] = (), tokenizer: Any = None) -> Report:
    """Runs the checks over a trajectory, over a dict in the shape of `t.to_dict()`, over several of these, over a store, or over
    the folder of an export (a `Path`).

    `profile`: all, or basic (structure and time), sft (and text and tools), rl (and rewards and tokens); `ignore`: codes;
    `tokenizer`: one of the package tokenizers, or the file of one, for the checks that decode. Checks of groups and of what is
    there twice need several. Raises InvalidInput for a profile or code that does not exist, TypeError for what is none of these.
    """
    if isinstance(what, (Trajectory, dict)):
        return validate_all([what], profile=profile, ignore=ignore, tokenizer=tokenizer, across=False)
    if isinstance(what, Path):
        from .exported import validate_export

        _, skip = _wanted(profile, ignore)
        report = Report()
        report.add(validate_export(what), skip)
        return report
    whole = getattr(what, "validate", None)
    if callable(whole):  # a store
        found: Report = whole(profile=profile, ignore=ignore, tokenizer=tokenizer)
        return found
    if isinstance(what, (str, bytes)) or not isinstance(what, Iterable):
        raise TypeError(f"validate() takes a trajectory, several, a store, or the Path of an export; not {type(what).__name__}")
    return validate_all(what, profile=profile, ignore=ignore, tokenizer=tokenizer)


validate_trajectory = validate


def _wanted(profile: str, ignore: Iterable[str]) -> tuple[list[Check], set[str]]:
    """The checks of a profile, and the codes that are left out."""
    if profile not in PROFILES:
        raise InvalidInput(f"no profile {profile!r}; there are: {', '.join(PROFILES)}")
    skip = set(ignore)
    unknown = sorted(map(str, skip - set(CHECKS)))
    if unknown:
        raise InvalidInput(f"no check {unknown[0]!r}; there are: {', '.join(CHECKS)}")
    return [c for c in CHECKS.values() if c.code not in skip and (profile == "all" or profile in c.profiles)], skip


class Checker:
    """The checks of a profile, over one trajectory after the other. Raises InvalidInput for what it can't be."""

    def __init__(self, profile: str, ignore: Iterable[str], tokenizer: Any) -> None:
        self.skip: set[str]
        wanted, self.skip = _wanted(profile, ignore)
        self._profile = profile
        self._checks = [c for c in wanted if c.run is not None]
        self.across: set[str] = {c.code for c in wanted} & {"group", "contamination"}
        self._tokenizer = adapted(tokenizer)

    def one(self, what: Trajectory | dict[str, Any]) -> tuple[list[Finding], Facts | None]:
        """What is wrong with a trajectory by itself, and what it is to be compared with others by."""
        if isinstance(what, dict):
            id = what.get("id")
            try:
                what = Trajectory.from_dict(what)
            except InvalidInput as error:
                if "schema" in self.skip:
                    return [], None
                path, _, message = str(error).partition(": ")
                if _PATH.fullmatch(path) is None:  # it is about the whole
                    path, message = "", str(error)
                shown = id if isinstance(id, str) else None
                return [Finding("schema", "error", path, _shown(message), shown)], None
        elif not isinstance(what, Trajectory):
            raise TypeError(f"validate() takes trajectories; not {type(what).__name__}")
        look = Look(what, self._tokenizer)
        found: list[Finding] = []
        for one in self._checks:
            assert one.run is not None
            severity = "error" if self._profile in one.errors_in else one.severity
            for path, message, *other in one.run(look):
                found.append(Finding(one.code, other[0] if other else severity, path, _shown(message), what.id))
        return found, facts(what) if self.across else None


def _shown(message: str) -> str:
    """A sentence may quote content, and content may be a secret."""
    from ..redact import Redactor

    return Redactor(True).text(message, Counter())


def validate_all(
    trajectories: Iterable[Trajectory | dict[str, Any]],
    *,
    profile: str = "all",
    ignore: Iterable[str] = (),
    tokenizer: Any = None,
    across: bool = True,
    whole: bool = True,
    most: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """`validate` over many; they are looked at one at a time. `across`: with the checks over all of them together; `whole`: all
    members of a group are there; `most`: findings of one code that are kept."""
    checker = Checker(profile, ignore, tokenizer)
    return collect((checker.one(t) for t in trajectories), checker, across=across, whole=whole, most=most, progress=progress)


def collect(
    results: Iterable[tuple[list[Finding], Facts | None]],
    checker: Checker,
    *,
    across: bool,
    whole: bool,
    most: int | None,
    progress: Callable[[int], None] | None,
) -> Report:
    """The report of what was found in each trajectory, and of what is wrong with them together."""
    report = Report(most=most)
    together = Across("group" in checker.across, "contamination" in checker.across, whole)
    for findings, about in results:
        report.checked += 1
        report.add(findings)
        if across and about is not None:
            report.add(_across(together.take(about)))
        if progress is not None:
            progress(report.checked)
    if across:
        report.add(_across(together.finish()))
    return report


def _across(found: Iterable[tuple[str, str, str, str]]) -> Iterator[Finding]:
    for code, trajectory, path, message in found:
        yield Finding(code, CHECKS[code].severity, path, _shown(message), trajectory)


def damage_findings(damages: Iterable[Damaged]) -> Iterator[Finding]:
    """Damaged lines of a store as findings."""
    for damage in damages:
        where = f"{damage.file}:{damage.offset}"
        if damage.torn:
            yield Finding("torn_line", "warning", where, f"{damage.reason}: its writer was killed while writing it", None)
        else:
            yield Finding(
                "malformed_json", "error", where, f"a line of {damage.file} at byte {damage.offset}: {damage.reason}", None
            )


CHECKS["malformed_json"] = Check("malformed_json", "error", _BASIC, (), "a journal line that does not parse", None)
CHECKS["torn_line"] = Check(
    "torn_line", "warning", _BASIC, (), "a last line cut short by a kill; it was never acknowledged", None
)
CHECKS["group"] = Check(
    "group", "warning", ("rl",), (), "a group of one, of no reward variance, or of mixed tasks or policy versions", None
)
CHECKS["contamination"] = Check(
    "contamination", "error", ("sft", "rl"), (), "the same task in two splits, or the same trajectory twice", None
)
CHECKS["unreadable_export"] = Check("unreadable_export", "error", _BASIC, (), "a file of an export that is gone or changed", None)

from . import conversation, leaks, rewards, structure, tokens  # noqa: E402, F401 - they register their checks
