"""`odograph replay`: run an agent's code again on a trajectory's recorded answers, with no model."""

from __future__ import annotations

import argparse
import asyncio

import msgspec

from .common import add_json, existing_store, print_json
from .fork_ import add_agent, agent_of
from .terminal import line, paint

HELP = "run an agent's code on recorded answers, without a model; exit status 1 if the code asks something else"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the trajectory: the id, or a unique prefix or suffix of the id")
    add_agent(parser)
    parser.add_argument("--live-tools", action="store_true", help="run the tools again (default: tools answer as recorded)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from ..runtime import replay

    with existing_store(args) as store:
        agent = agent_of(args.agent)
        found = asyncio.run(replay(args.id, agent, tools="live" if args.live_tools else "recorded", store=store))
    if args.json:
        print_json(msgspec.to_builtins(found))
    else:
        verdict = paint("the same", "green") if found.same else paint("not the same", "red")
        print(f"{verdict}: {found.calls} of {found.of} recorded calls were asked again")
        if found.divergence is not None:
            print(line(str(found.divergence)))
        elif not found.same:
            print(line(f"the answer is {found.answer!r}, recorded {found.recorded_answer!r}"))
    return 0 if found.same else 1
