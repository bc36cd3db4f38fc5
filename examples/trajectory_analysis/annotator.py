"""A person, as a script: reads what tools did, and believes nothing that is only said. Labels through the queue of people."""

from __future__ import annotations

import dataclasses

import odograph
from odograph.worlds import Queue, Rubric

from .judge import verdict


def label(store: odograph.Store, rubric: Rubric, count: int) -> int:
    """Labels the next sessions of the sample; returns how many have a label of this annotator now."""
    queue = Queue(store, rubric, "script", sample=count)
    while (item := queue.next()) is not None:
        value, why = verdict([dataclasses.asdict(turn) for turn in item.turns], strict=True, tools_only=True)
        queue.label(item, value, rationale=why)
    return queue.done
