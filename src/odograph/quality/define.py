"""What a check is: a generator with a code, a severity and profiles. Knows no check, and nothing of where checks come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import msgspec

from .look import Look

Profile = Literal["all", "basic", "sft", "rl"]
Severity = Literal["error", "warning"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
#: The profiles of a check that says nothing of them.
EVERY: tuple[str, ...] = PROFILES[1:]

#: What a check yields: (path, message), or (path, message, severity) where the severity is not the check's own.
Found = Iterator[tuple[str, str] | tuple[str, str, str]]
Run = Callable[[Look], Found]


class Check(msgspec.Struct, frozen=True):
    """A check: its code, how bad its findings are, and the profiles in which it runs (`all` runs everything)."""

    code: str
    severity: Severity
    finds: str
    #: Profiles in which the check runs.
    profiles: tuple[str, ...] = EVERY
    #: Profiles in which a warning is an error.
    errors_in: tuple[str, ...] = ()
    #: None where the code looks at more than one trajectory: at a store's files, at groups, at an export.
    run: Run | None = None

    def __call__(self, look: Look) -> Found:
        """What the check finds in one trajectory."""
        return iter(()) if self.run is None else self.run(look)


def check(
    code: str, severity: Severity, finds: str, profiles: tuple[str, ...] = EVERY, errors_in: tuple[str, ...] = ()
) -> Callable[[Run], Check]:
    """Makes a generator from a `Look` to (path, message) the check of a code. Raises ValueError for what does not exist."""
    if not isinstance(code, str) or not code:
        raise ValueError(f"the code of a check is a name, not {code!r}")
    if severity not in SEVERITIES:
        raise ValueError(f"no severity {severity!r}; there are: {', '.join(SEVERITIES)}")
    for profile in (*profiles, *errors_in):
        if profile not in EVERY:
            raise ValueError(f"no profile {profile!r}; there are: {', '.join(EVERY)}")
    return lambda run: Check(code, severity, finds, profiles, errors_in, run)


def checks_in(what: Any) -> list[Check]:
    """The checks of a module (or of any object), in the order in which they stand there; a check is itself."""
    return [what] if isinstance(what, Check) else [v for v in getattr(what, "__dict__", {}).values() if isinstance(v, Check)]
