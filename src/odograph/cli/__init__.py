"""The program `odograph`: one command a file. Data goes to stdout, everything else to stderr; a user's mistake is one sentence.

A command is a module with `HELP`, `add_arguments(parser)` and `run(args) -> exit status`: 0 fine, 1 findings or a failed
operation, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import Any, NoReturn

from ..errors import InvalidInput, OdographError, did_you_mean
from ..types import VERSION
from .numbers import named, number, whole

#: The commands, in the order of the help.
COMMANDS: tuple[str, ...] = (
    "demo",
    "import",
    "ls",
    "show",
    "view",
    "search",
    "tail",
    "validate",
    "score",
    "judge",
    "label",
    "discover",
    "export",
    "train",
    "stats",
    "compare",
    "seal",
    "publish",
    "sql",
    "lineage",
    "diff",
    "fork",
    "replay",
    "record",
    "proxy",
    "collect",
    "serve",
    "ship",
    "doctor",
)


_STORE = "the store: a folder, s3://..., or the https:// address of a served one (default: $ODOGRAPH_STORE, else ./odograph)"
_TOKEN = "the token of a store that is served, at https://HOST (default: $ODOGRAPH_TOKEN)"


class _Parser(argparse.ArgumentParser):
    """A wrong call is answered in one line; numbers of all commands are within bounds, and names are not empty."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.register("type", None, named)
        self.register("type", int, whole)
        self.register("type", float, number)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Of the whole program: what a command does not know is answered by the command, with the option that may be meant."""
        parsed, unknown = self.parse_known_args(args, namespace)
        commands = next(action for action in self._actions if isinstance(action, argparse._SubParsersAction))
        sub = commands.choices.get(parsed.command, self)
        parsed.arguments = {name: action for action in sub._actions for name in action.option_strings or [action.metavar]}
        if unknown:
            option = unknown[0].partition("=")[0]
            if option in sub._option_string_actions:
                sub.error(f"{option} stands behind the command: {sub.prog} {option}")
            near = did_you_mean(option, sub._option_string_actions) if option.startswith("-") else ""
            sub.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        return parsed

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def module(command: str) -> Any:
    """The module of a command."""
    return import_module(f".{command}_", __name__)


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of the program; of one command's arguments alone where `only` names it, which is quicker."""
    top = _Parser(prog="odograph", description="The system of record for the trajectories of LLM agents.")
    top.add_argument("--version", action="version", version=f"odograph {VERSION}")
    top.add_argument("--store", metavar="DIR", help=_STORE)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    commands.type = str  # all that follows the command, too, which the command itself reads
    for name in COMMANDS:
        if only is None or name == only:
            found = module(name)
            sub = commands.add_parser(name, help=found.HELP, description=found.HELP)
            sub.add_argument("--store", metavar="DIR", default=argparse.SUPPRESS, help=_STORE)
            found.add_arguments(sub)
            if "--token" not in sub._option_string_actions:  # of a command that serves, it is the token of its own server
                sub.add_argument("--token", metavar="TOKEN", dest="store_token", help=_TOKEN)
        else:
            commands.add_parser(name)
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    from .terminal import guarded

    with guarded():
        return _main(argv)


def _main(argv: list[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = next((a for a in arguments if a in COMMANDS), None)
    try:
        wants_help = not arguments or arguments[0] in ("-h", "--help")
        parsed = parser(None if wants_help else command or "").parse_args(arguments or ["--help"])
        if parsed.command is None:
            print(f"odograph: a command was expected; there are: {', '.join(COMMANDS)}", file=sys.stderr)
            return 2
        if token := getattr(parsed, "store_token", None):
            from ..store.opening import default_place
            from ..store.served import SCHEMES

            if not (place := parsed.store or default_place()).lower().startswith(SCHEMES):
                raise InvalidInput(f"--token is for a served store, at https://...; {place!r} is not served")
            os.environ["ODOGRAPH_TOKEN"] = token  # for the processes that a command starts, too
        return int(module(parsed.command).run(parsed))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except OdographError as error:
        print(f"odograph: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidInput) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader had enough: say nothing at exit either
        return 0
    except UnicodeEncodeError:
        odd = next((a for a in arguments if not _is_text(a)), None)
        if odd is None:
            raise
        print(f"odograph: {odd!r} is no text in UTF-8", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except OSError as error:
        where = f" {error.filename!r}" if error.filename else ""
        print(f"odograph: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except Exception:  # a defect of ours: its traceback may hold what agents wrote
        import traceback

        traceback.print_exc()
        return 1


def _is_text(argument: str) -> bool:
    """Whether an argument can be encoded: bytes that are no UTF-8 reach a program as lone surrogates, and name files only."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True
