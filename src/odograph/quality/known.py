"""Which checks there are: the built-in ones, those of installed packages, and those that are named. One door for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import InvalidInput
from ..plugins import Door
from . import across, damage, exported
from .define import Check, checks_in

#: A name, `package:object` or a file of checks; or a module or check itself.
DOOR = Door("check", "odograph.checks", "odograph.quality.checks")


def _builtin() -> dict[str, Check]:
    of_many = [check for module in (damage, across, exported) for check in checks_in(module)]
    return {check.code: check for check in (*of_many, *(c for module in DOOR.builtin() for c in checks_in(module)))}


#: The built-in checks by code.
CHECKS: dict[str, Check] = _builtin()


def known(more: Iterable[Any] = ()) -> dict[str, Check]:
    """All checks by code: the built-in ones, those of installed packages (entry points `odograph.checks`), and `more`.

    Raises NotFound, UnknownName or InvalidInput where something of `more` can't be had, is no check, or takes another's code.
    """
    found = dict(CHECKS)
    if isinstance(more, str):
        more = [more]
    for name in [*DOOR.offered, *more]:
        what = DOOR.find(name) if isinstance(name, str) else name
        checks = checks_in(what)
        if not checks:
            raise InvalidInput(f"no check in {_named(name)}; a function with @odograph.quality.check(...) was expected")
        for check in checks:
            if check.run is None:
                raise InvalidInput(f"the check {check.code!r} of {_named(name)} has no function")
            other = found.setdefault(check.code, check)
            if other is not check and (check.code in CHECKS or _place(other) != _place(check)):
                raise InvalidInput(f"the check {check.code!r} of {_named(name)} has the code of another check; codes are unique")
            found[check.code] = check
    return found


def _named(name: Any) -> str:
    return repr(name) if isinstance(name, str) else repr(getattr(name, "__name__", name))


def _place(check: Check) -> tuple[Any, Any]:
    """Where a check is written: a file that is named twice holds the same check."""
    code = getattr(check.run, "__code__", None)
    return getattr(code, "co_filename", check.run), getattr(code, "co_firstlineno", 0)
