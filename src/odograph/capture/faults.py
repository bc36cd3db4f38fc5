"""Faults in capture: it never raises into the agent, so they are counted and warned of."""

from __future__ import annotations

import os
import sys
import warnings

from ..plain import message_of
from ..redact import withheld
from ..store.journal import redacting


class _Faults:
    """Faults in capture of this process: counted, warned of once."""

    count = 0
    last: BaseException | None = None


faults: _Faults = _Faults()


def fault(error: BaseException, *, of_disk: bool = False) -> None:
    """Notes that capture failed: never raises into the agent, unless ODOGRAPH_STRICT=1.

    Where a store of this process redacts, what the error says is withheld: it may repeat what the store takes out. `of_disk`: it
    is of the store's own files, and says nothing else.
    """
    if not of_disk and redacting():
        error = withheld(error)
    faults.count += 1
    faults.last = error
    if os.environ.get("ODOGRAPH_STRICT") == "1":
        raise error
    error.__traceback__ = None  # kept, it would keep the agent's frames alive: open streams, whole histories
    if faults.count == 1 and not sys.is_finalizing():
        warnings.warn(
            f"odograph could not record something: {type(error).__name__}: {message_of(error)}", RuntimeWarning, stacklevel=3
        )
