"""Faults in capture: it never raises into the agent, so they are counted and warned of."""

from __future__ import annotations

import os
import sys
import warnings

from ..plain import message_of


class _Faults:
    """Faults in capture of this process: counted, warned of once."""

    count = 0
    last: BaseException | None = None


faults: _Faults = _Faults()


def fault(error: BaseException) -> None:
    """Notes that capture failed: never raises into the agent, unless ODOGRAPH_STRICT=1."""
    faults.count += 1
    faults.last = error
    if os.environ.get("ODOGRAPH_STRICT") == "1":
        raise error
    error.__traceback__ = None  # kept, it would keep the agent's frames alive: open streams, whole histories
    if faults.count == 1 and not sys.is_finalizing():
        warnings.warn(
            f"odograph could not record something: {type(error).__name__}: {message_of(error)}", RuntimeWarning, stacklevel=3
        )
