"""`odograph.logger`, for scripts: what it says is shown on stderr, unless the program has logging of its own."""

from __future__ import annotations

import logging
import sys
from typing import Any

logger: logging.Logger = logging.getLogger("odograph")


class _Shown(logging.StreamHandler):  # type: ignore[type-arg]
    """Shows what nobody else would: it steps back as soon as the program configures logging."""

    @property
    def stream(self) -> Any:
        """Standard error as it is now: a command's escapes what a terminal would obey."""
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """Logging sets what it was made with."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not logging.root.handlers and bool(super().filter(record))


if not logger.handlers:
    shown = _Shown()
    shown.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(shown)
    logger.setLevel(logging.INFO)
