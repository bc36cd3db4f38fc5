"""Running checks over one trajectory, over many, and over an export."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from ..errors import InvalidInput, described
from ..lineage import tokenizer as adapted
from ..redact import Redactor
from ..store.reader import Reader
from ..trajectory import Trajectory
from .across import CONTAMINATION, GROUP, Across, Facts, facts
from .define import PROFILES, SEVERITIES, Check, Profile
from .exported import validate_export
from .known import known
from .look import Look
from .report import Finding, Report

_PATH = re.compile(r"\w+(?:\[\d+\])?(?:\.\w+(?:\[\d+\])?)*", re.ASCII)


class Validated(Protocol):
    """A store: `Store` stands above this room, which can't name the class."""

    def validate(self, *, profile: Profile, ignore: Iterable[str], tokenizer: Any, checks: Iterable[Any]) -> Report: ...


#: What `validate` takes.
Looked = Trajectory | dict[str, Any] | Iterable[Trajectory | dict[str, Any]] | Path | Validated


def validate(
    what: Looked, *, profile: Profile = "all", ignore: Iterable[str] = (), tokenizer: Any = None, checks: Iterable[Any] = ()
) -> Report:
    """Runs the checks over a trajectory, over a dict in the shape of `t.to_dict()`, over several of these, over a store, or over
    the folder of an export (a `Path`).

    `profile`: all, or basic (structure and time), sft (and text and tools), rl (and rewards and tokens); `ignore`: codes;
    `tokenizer`: one of the package tokenizers, or the file of one, for the checks that decode; `checks`: more checks, by file,
    `package:object` or entry point, or as modules or checks themselves. Checks of groups and of trajectories that are there twice
    need several trajectories. Raises InvalidInput for a profile, code or check that does not exist, TypeError for a `what` of
    another type.
    """
    if isinstance(what, (Trajectory, dict)):
        return validate_all([what], profile=profile, ignore=ignore, tokenizer=tokenizer, checks=checks, across=False)
    if isinstance(what, Path):
        _, skip = _wanted(profile, ignore, known(checks))
        report = Report()
        report.add(validate_export(what), skip)
        return report
    whole = getattr(what, "validate", None)
    if callable(whole):
        found: Report = whole(profile=profile, ignore=ignore, tokenizer=tokenizer, checks=checks)
        return found
    if isinstance(what, (str, bytes)) or not isinstance(what, Iterable):
        raise TypeError(f"validate() takes a trajectory, several, a store, or the Path of an export; not {type(what).__name__}")
    return validate_all(what, profile=profile, ignore=ignore, tokenizer=tokenizer, checks=checks)


validate_trajectory = validate


def _wanted(profile: Profile, ignore: Iterable[str], there: dict[str, Check]) -> tuple[list[Check], set[str]]:
    """The checks of a profile, and the codes that are left out."""
    if profile not in PROFILES:
        raise InvalidInput(f"no profile {profile!r}; there are: {', '.join(PROFILES)}")
    skip = set(ignore)
    unknown = sorted(map(str, skip - set(there)))
    if unknown:
        raise InvalidInput(f"no check {unknown[0]!r}; there are: {', '.join(there)}")
    return [c for c in there.values() if c.code not in skip and (profile == "all" or profile in c.profiles)], skip


class Checker:
    """The checks of a profile, over one trajectory after the other. Raises InvalidInput for what does not exist."""

    def __init__(self, profile: Profile, ignore: Iterable[str], tokenizer: Any, checks: Iterable[Any] = ()) -> None:
        there = known(checks)
        wanted, self.skip = _wanted(profile, ignore, there)
        #: How many checks there are, whatever the profile.
        self.known: int = len(there)
        self._profile = profile
        self._checks = [c for c in wanted if c.run is not None]
        self.across: set[str] = {c.code for c in wanted} & {GROUP.code, CONTAMINATION.code}
        self._tokenizer = adapted(tokenizer)

    def one(self, what: Trajectory | dict[str, Any], *, compared: bool = True) -> tuple[list[Finding], Facts | None]:
        """What is wrong with a trajectory by itself; and, where it is `compared`, what it is to be compared with others by."""
        by_hand = isinstance(what, dict) and not isinstance(what.get("start"), dict)
        stated = what.get("reward") if isinstance(what, dict) else None
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
        look = Look(what, self._tokenizer, by_hand=by_hand, stated=stated)
        found: list[Finding] = []
        for one in self._checks:
            severity = "error" if self._profile in one.errors_in else one.severity
            for path, message, *other in dict.fromkeys(_found(one, look)):  # content can stand in two records
                found.append(Finding(one.code, other[0] if other else severity, path, _shown(message), what.id))
        return found, facts(what) if self.across and compared else None


def begin(
    profile: Profile, ignore: list[str], tokenizer: str | None, checks: list[str]
) -> Callable[[Reader, list[str]], list[Any]]:
    """The checks of a profile as work of `odograph.processes`."""
    checker = Checker(profile, ignore, tokenizer, checks)
    return lambda reader, ids: [checker.one(t) for t in reader.read(ids)]


def _found(check: Check, look: Look) -> Iterator[tuple[str, ...]]:
    """What a check yields. A check that fails, or yields something else, says so as a finding: it costs no other check."""
    try:
        for found in check(look):
            whole = isinstance(found, tuple) and len(found) in (2, 3) and all(isinstance(part, str) for part in found)
            if not whole or (len(found) == 3 and found[2] not in SEVERITIES):
                yield "", f"the check yields (path, message) or (path, message, severity), not {found!r:.200}", "error"
                return
            yield found
    except (Exception, SystemExit) as error:
        yield "", f"the check failed: {described(error)}", "error"


def _shown(message: str) -> str:
    """A sentence may quote content, and content may be a secret."""
    return Redactor(True).text(message, Counter())


def validate_all(
    trajectories: Iterable[Trajectory | dict[str, Any]],
    *,
    profile: Profile = "all",
    ignore: Iterable[str] = (),
    tokenizer: Any = None,
    checks: Iterable[Any] = (),
    across: bool = True,
    whole: bool = True,
    most: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """`validate` over many; they are looked at one at a time. `across`: with the checks over all of them together; `whole`: all
    members of a group are there; `most`: findings of one code that are kept."""
    checker = Checker(profile, ignore, tokenizer, checks)
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
    together = Across(GROUP.code in checker.across, CONTAMINATION.code in checker.across, whole)
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
        severity = next(c.severity for c in (GROUP, CONTAMINATION) if c.code == code)
        yield Finding(code, severity, path, _shown(message), trajectory)
