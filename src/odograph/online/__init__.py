"""Trainers that call agents while they train: one rollout is one row, whoever asks for it. One trainer a file.

`rollout` runs a task and gives its row; `serving` makes an engine that takes and gives token ids an endpoint that agents can ask.
"""

from __future__ import annotations

from .rolling import rollout, rollouts, sync_rollouts
from .serving import ChatServer, Generated

__all__ = ["ChatServer", "Generated", "rollout", "rollouts", "sync_rollouts"]
