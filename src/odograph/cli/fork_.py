"""`odograph fork`: go on from one step of a trajectory with another model, prompt or messages."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from .. import plugins
from ..errors import InvalidInput, NotFound
from .common import add_json, existing_store, print_json
from .terminal import line, paint

HELP = "continue from a step of a trajectory with another agent, model or messages; records a fork"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the trajectory: the id, or a unique prefix or suffix of the id")
    parser.add_argument("--at-step", type=int, metavar="K", help="the first step to take again (default: the last)")
    add_agent(parser)
    parser.add_argument("--model", help="ask this model")
    parser.add_argument("--base-url", metavar="URL", help="ask the model at this endpoint")
    parser.add_argument("--system-prompt", type=str, metavar="TEXT", help="use this system prompt")
    parser.add_argument("--messages", metavar="FILE", help="use these chat messages (a JSON list) in place of the recorded ones")
    parser.add_argument("--reason", type=str, metavar="TEXT", help="reason to record with the fork")
    add_json(parser)


def add_agent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--agent", metavar="FILE.py:NAME", help="the agent, or package:name (default: rebuilt from the record)")


def agent_of(given: str | None) -> Any:
    """The agent that a flag names. Raises NotFound or InvalidInput."""
    if given is None:
        return None
    found = plugins.load(given) if ":" in given else None
    if found is None:
        raise InvalidInput(f"an agent is given as FILE.py:NAME or package:NAME, not {given!r}")
    return found


def run(args: argparse.Namespace) -> int:
    from ..runtime import Runners

    changes = {"base_url": args.base_url, "system_prompt": args.system_prompt}
    with existing_store(args) as store:
        task = Runners.fork(
            args.id,
            args.at_step,
            agent=agent_of(args.agent),
            model=args.model,
            messages=_messages(args.messages),
            reason=args.reason,
            store=store,
            **{k: v for k, v in changes.items() if v is not None},
        )
        response = asyncio.run(Runners.finish(task))
        steps = len(response.trajectory)
    if args.json:
        found = {"trajectory": response.trajectory_id, "status": response.status, "answer": response.answer, "steps": steps}
        print_json(found | {"error": response.msg})
    else:
        print(f"{paint(str(response.trajectory_id), 'bold')}: {response.status} after {steps} steps")
        said = response.answer if response.success else response.msg
        print(line(said if isinstance(said, str) else json.dumps(said, default=str, ensure_ascii=False)))
    return 0 if response.success else 1


def _messages(path: str | None) -> list[dict[str, Any]] | None:
    if path is None:
        return None
    try:
        found = json.loads(Path(path).read_text())
    except OSError as error:
        raise NotFound(f"{path!r} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise InvalidInput(f"{path!r} is no JSON: {error}") from None
    if not isinstance(found, list) or not all(isinstance(m, dict) and "role" in m for m in found):
        raise InvalidInput(f"{path!r} is no list of chat messages")
    return found
