"""Running agents: tasks to their end or step by step, in batches, again, and from any of their steps.

`Agent` is one implementation of the two methods of `AnyAgent`; environments, coroutines and other frameworks' agents are others.
"""

from __future__ import annotations

from .agent import Agent
from .events import Event
from .functions import FunctionAgent
from .gym import GymAgent
from .mcp import MCPServer
from .recorded import Divergence
from .replaying import Replay, replay
from .response import TaskResponse
from .runner import Runners
from .task import AnyAgent, Outcome, Task, TaskConfig, TaskRunMode
from .tools import ToolContext

fork = Runners.fork

__all__ = [
    "Agent",
    "AnyAgent",
    "Divergence",
    "Event",
    "FunctionAgent",
    "GymAgent",
    "MCPServer",
    "Outcome",
    "Replay",
    "Runners",
    "Task",
    "TaskConfig",
    "TaskResponse",
    "TaskRunMode",
    "ToolContext",
    "fork",
    "replay",
]
