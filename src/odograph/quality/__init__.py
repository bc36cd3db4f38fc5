"""`validate`: what is wrong with a trajectory before anybody trains on it or trusts it. The checks are in the modules beside.

A check is a generator from a `Look` to (path, message) pairs, registered with its code, severity and profiles by `check`.
Codes are what people write in configuration: they never change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import msgspec

from ..errors import InvalidInput
from ..lineage import tokenizer as adapted
from ..trajectory import Trajectory
from .look import Look

PROFILES = ("all", "basic", "sft", "rl")


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
    run: Callable[[Look], Iterator[tuple[str, str]]] | None


CHECKS: dict[str, Check] = {}
_BASIC = ("basic", "sft", "rl")


def check(
    code: str, severity: str, finds: str, profiles: tuple[str, ...] = _BASIC, errors_in: tuple[str, ...] = ()
) -> Callable[[Callable[[Look], Iterator[tuple[str, str]]]], Callable[[Look], Iterator[tuple[str, str]]]]:
    """Registers a function as the check of a code."""

    def register(run: Callable[[Look], Iterator[tuple[str, str]]]) -> Callable[[Look], Iterator[tuple[str, str]]]:
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

    @property
    def valid(self) -> bool:
        """Whether there is no error; warnings are allowed."""
        return not self.errors

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "warning"]

    def add(self, findings: Iterable[Finding], ignore: Iterable[str] = ()) -> None:
        """Takes more findings in, but those of ignored codes."""
        skip = set(ignore)
        self.findings += [f for f in findings if f.code not in skip]

    def to_dict(self) -> dict[str, Any]:
        return {"valid": self.valid, "findings": [msgspec.structs.asdict(f) for f in self.findings]}


def validate(
    trajectory: Trajectory | dict[str, Any], *, profile: str = "all", ignore: Iterable[str] = (), tokenizer: Any = None
) -> Report:
    """Runs the checks over one trajectory, or over a dict in the shape of `t.to_dict()`.

    `profile`: all, or basic (structure and time), sft (and text and tools), rl (and rewards and tokens); `ignore`: codes;
    `tokenizer`: one of the package tokenizers, or the file of one, for the checks that decode. Raises InvalidInput for a profile
    or a code that does not exist.
    """
    return validate_all([trajectory], profile=profile, ignore=ignore, tokenizer=tokenizer)


def validate_all(
    trajectories: Iterable[Trajectory | dict[str, Any]],
    *,
    profile: str = "all",
    ignore: Iterable[str] = (),
    tokenizer: Any = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """`validate` over many; they are looked at one at a time."""
    if profile not in PROFILES:
        raise InvalidInput(f"no profile {profile!r}; there are: {', '.join(PROFILES)}")
    skip = set(ignore)
    unknown = sorted(skip - set(CHECKS))
    if unknown:
        raise InvalidInput(f"no check {unknown[0]!r}; there are: {', '.join(CHECKS)}")
    wanted = [
        c for c in CHECKS.values() if c.run is not None and c.code not in skip and (profile == "all" or profile in c.profiles)
    ]
    report = Report()
    by = adapted(tokenizer)
    for trajectory in trajectories:
        report.checked += 1
        if isinstance(trajectory, dict):
            id = trajectory.get("id")
            try:
                trajectory = Trajectory.from_dict(trajectory)
            except InvalidInput as error:
                path, _, message = str(error).partition(": ")
                report.add([Finding("schema", "error", path, message or path, id if isinstance(id, str) else None)], skip)
                continue
        look = Look(trajectory, by)
        for one in wanted:
            severity = "error" if profile in one.errors_in else one.severity
            assert one.run is not None
            report.findings += [Finding(one.code, severity, path, message, trajectory.id) for path, message in one.run(look)]
        if progress is not None:
            progress(report.checked)
    return report


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

from . import conversation, rewards, structure, tokens  # noqa: E402, F401 - they register their checks
