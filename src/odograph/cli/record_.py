"""`odograph record -- CMD`: runs an agent's program, and records the model calls that it makes."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..api import Store, open
from ..errors import InvalidInput, MissingExtra, NotFound, OdographError
from ..redact import Redactor
from .common import tell
from .proxy_ import SWITCH_SECONDS, add_shared, key_of
from .terminal import line

if TYPE_CHECKING:
    from ..proxy.child import Program

HELP = "run an agent's program (Claude Code, Codex, a script, ...) and record the model calls that it makes"
_DRAIN = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", type=str, metavar="TEXT", help="task of the trajectory (default: the user's first message)")
    parser.add_argument("--tag", action="append", default=[], metavar="TAG", help="tag of the trajectory; may be repeated")
    parser.add_argument("--group", metavar="NAME", help="group of the trajectory")
    parser.add_argument(
        "--agent", metavar="NAME", help="the program's agent, such as codex (default: recognised by the program's name)"
    )
    parser.add_argument(
        "--upstream",
        metavar="URL",
        help="address of the model's API (default: the base URL in the environment, else the provider's own address)",
    )
    parser.add_argument(
        "--git", action="store_true", help="record the working folder's git head and diff, before and after the run"
    )
    parser.add_argument(
        "--into-session",
        action="store_true",
        help="also read the agent's own session file, for details that the calls do not carry",
    )
    add_shared(parser)
    parser.add_argument("program", nargs=argparse.REMAINDER, type=str, metavar="-- CMD", help="the program and its arguments")


def run(args: argparse.Namespace) -> int:
    try:
        from ..proxy import agents, child, git
        from ..proxy.service import Proxy
    except ImportError:
        raise MissingExtra("recording a program", "proxy") from None

    argv = args.program[1:] if args.program[:1] == ["--"] else args.program
    if not argv:
        raise InvalidInput("a program was expected: odograph record -- claude -p 'fix the test'")
    agent = agents.agent_of(argv, args.agent)
    roots = agents.upstreams(os.environ, args.upstream)
    name = f"record-{uuid.uuid4().hex}"
    try:
        folder = Path.cwd()
    except FileNotFoundError:
        raise InvalidInput("the working folder is no longer there") from None
    clean = Redactor(True)
    metadata: dict[str, Any] = {"command": [clean.text(part, Counter()) for part in argv], "folder": str(folder)}
    sys.setswitchinterval(SWITCH_SECONDS)
    began = time.time()
    with open(args.store, redact=args.redact or None) as store:
        place = Path(store.backend.here.folder)
        if args.git and (before := git.state(folder, place)) is not None:
            metadata["git"] = before
        names = list(roots)
        proxy = Proxy(store, [roots[names[0]][0]], tokens=args.tokens, key=key_of(args))
        for other in names[1:]:
            proxy.also([roots[other][0]])
        with proxy, child.Program() as program:
            proxy.own(name, task=args.task, group=args.group, tags=args.tag, metadata=metadata, agent=_named(agent.name))
            ticket = proxy.ticket(name)
            bases = {n: agents.based(proxy.urls[i], ticket, roots[n][1]) for i, n in enumerate(names)}
            try:
                status = _status(program, argv, agent, bases)
            except (NotFound, InvalidInput) as error:
                tell(f"odograph: {error}; nothing is recorded")
                return 127 if isinstance(error, NotFound) else 126  # as shells have it
            try:
                proxy.drain(_DRAIN)
                id = proxy.end(name, **_outcome(status))
                proxy.close(0)
                _say(store, id, args, agent, began, git.state(folder, place) if args.git else None)
            except OdographError as error:  # a disk that got full: the exit status is the program's all the same
                tell(f"odograph: {error}")
    return child.ended_alike(status)


def _named(name: str) -> str | None:
    return None if name == "generic" else name


def _status(program: Program, argv: list[str], agent: Any, bases: dict[str, str]) -> int:
    from ..proxy import agents

    whole = agents.command(agent, bases, argv)
    with tempfile.TemporaryDirectory(prefix="odograph-record-") as place:
        return program.run(whole, agents.environment(agent, bases, os.environ, argv, Path(place)))


def _outcome(status: int) -> dict[str, Any]:
    """How the trajectory ends."""
    if status == 0:
        return {"status": "completed"}
    if status in (-2, 130):
        return {"status": "cancelled", "metrics": {"exit_status": status}}
    said = f"signal {-status}" if status < 0 else f"exit status {status}"
    return {"status": "failed", "error": said, "metrics": {"exit_status": status}}


def _say(store: Store, id: str | None, args: argparse.Namespace, agent: Any, began: float, after: Any) -> None:
    """What else is recorded, and the one line at the end."""
    where = f"--store {shlex.quote(args.store)}" if args.store else ""
    if id is None:
        why = "a program that names its base URL itself, or clears its environment, is not led here"
        tell(f"odograph: no call of a model passed; nothing is recorded ({why})")
        return
    health = store.health()
    unwritten = health["waiting"] + health["lost"]
    try:
        t = store.trajectory(id)
    except NotFound:
        tell(f"odograph: no call could be recorded: {health['failure'] or health['last_fault']}")
        return
    more = f", {unwritten} records could not be written ({health['failure']})" if unwritten else ""
    more += ", no git repository" if args.git and after is None else ""
    if after is not None or args.into_session:
        run = store.append(id)
        if after is not None:
            run.note(after, name="git")
        if args.into_session:
            more += _merged(t, run, agent, began)
    counts = f"{len(t.llm_calls)} calls, {len(t.steps)} steps, {len(t.actions)} actions"
    tell(f"odograph: recorded {counts}{more}: odograph show {t.id[-8:]} {line(where)}".rstrip())


def _merged(t: Any, run: Any, agent: Any, began: float) -> str:
    from ..proxy import agents, sessions

    agent = next((row for row in agents.AGENTS if row.name == t.agent), agent)  # a shell may have started it
    folder = agent.folder(os.environ)
    if folder is None:
        return f", no session file ({agent.name} has none that is known)"
    named = [t.metadata.get("session") or ""]
    found = sessions.merge(sessions.files_since(folder, agent.sessions, began, named), t, run)
    return (
        f", {len(found.files)} session files with {found.enriched + found.added} records" if found.files else ", no session file"
    )
