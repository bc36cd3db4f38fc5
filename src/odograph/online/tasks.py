"""What trainers give, as tasks: a prompt of theirs and an agent of ours. Knows no trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import InvalidInput
from ..runtime import AnyAgent, Task

#: An agent, or a function that makes the task of what a trainer gives: a prompt, a row of its dataset.
Makes = AnyAgent | Callable[[Any], Task]


def task_of(makes: Makes, given: Any, **about: Any) -> Task:
    """The task of what a trainer gives. Raises InvalidInput."""
    if isinstance(makes, AnyAgent):
        return Task(given, makes, **about)
    task = makes(given)
    if not isinstance(task, Task):
        raise InvalidInput(f"a Task was expected of {getattr(makes, '__name__', makes)!r}, found {type(task).__name__}")
    return task
