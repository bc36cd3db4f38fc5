"""`odograph.logger`: messages for scripts. Messages go to stderr, unless the program configures logging itself."""

from __future__ import annotations

import logging
import sys
from typing import Any

logger: logging.Logger = logging.getLogger("odograph")


class _Shown(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes messages to stderr, as long as the program configures no logging."""

    @property
    def stream(self) -> Any:
        """Standard error of this moment: a command replaces it by a stream that escapes control characters."""
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """Ignored: `logging` sets the stream of the time when the handler was made."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not logging.root.handlers and bool(super().filter(record))


if not logger.handlers:
    shown = _Shown()
    shown.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(shown)
    logger.setLevel(logging.INFO)
