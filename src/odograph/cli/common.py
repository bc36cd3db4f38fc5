"""What commands share: opening the store, filters, progress, JSON."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Collection
from typing import Any, cast

from ..api import Store, open
from ..codec import encode, loads
from ..errors import InvalidInput, NotFound, did_you_mean
from ..store.filters import Described, FilterArgs, described
from ..store.opening import default_place, is_there


def existing_store(args: argparse.Namespace) -> Store:
    """The store that a reading command means. Raises NotFound where there is none: reading makes none."""
    where = args.store or default_place()
    if not is_there(where):
        hint = "" if args.store else "; name one with --store or $ODOGRAPH_STORE"
        raise NotFound(f"no store at {where!r}{hint}")
    return open(where)


def add_json(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")


def add_filters(parser: argparse.ArgumentParser, *, without: Collection[str] = ()) -> None:
    """The filters of `store.trajectories` as flags, but those whose flag means something else in a command."""
    group = parser.add_argument_group("filters (all must hold)")
    for one in described():
        if one.name in without:
            continue
        for flag, text in one.flags.items():
            group.add_argument(f"--{flag}", metavar="TIME", help=text)
        if one.flags:
            continue
        more: dict[str, Any] = {"dest": _dest(one.name), "metavar": _METAVARS.get(one.name, "X"), "help": one.text}
        if one.kind is list:
            more |= {"action": "append", "help": one.text + " (may be repeated)"}
        elif one.kind is not str:
            more["type"] = one.kind
        group.add_argument(*filter_flags(one), **more)
    group.add_argument("--where", action="append", default=[], metavar="FILTER=VALUE", help="any of these filters, by name")


def filter_flags(one: Described) -> list[str]:
    """The flags of a filter."""
    if one.flags:
        return [f"--{flag}" for flag in one.flags]
    return [*(["-n"] if one.name == "limit" else []), "--" + one.name.replace("_", "-")]


#: What stands for the value of a flag in the help; X for a number.
_METAVARS = dict.fromkeys(("group", "agent", "model"), "NAME") | dict.fromkeys(("ids", "task_id"), "ID")
_METAVARS |= {"tag": "TAG", "status": "STATUS", "policy_version": "VERSION", "text": "WORDS", "limit": "N"}


def _dest(name: str) -> str:
    """Where a filter's value is: apart from what a command takes under the same name, such as the IDs of `validate`."""
    return f"filter_{name}"


def filters_of(args: argparse.Namespace) -> FilterArgs:
    """The filters that were given; with the IDs of a command that takes them as arguments."""
    kinds = {one.name: one.kind for one in described()}
    found: dict[str, Any] = {name: value for name in kinds if (value := getattr(args, _dest(name), None)) is not None}
    for given in args.where:
        name, mark, value = given.partition("=")
        name = name.strip().replace("-", "_")
        kind = kinds.get(name)
        if kind is None:
            raise InvalidInput(f"no filter {name!r}; there are: {', '.join(kinds)}{did_you_mean(name, kinds)}")
        if not mark:
            raise InvalidInput(f"--where is written FILTER=VALUE; found {given!r}")
        try:
            said: Any = [*found.get(name, ()), value] if kind is list else kind(value) if kind in (int, float) else value
        except ValueError:
            raise InvalidInput(f"{name} is a number, not {value!r}") from None
        if kind is not list and found.get(name, said) != said:
            raise InvalidInput(f"{name} is given twice, as {found[name]!r} and as {said!r}")
        found[name] = said
    if ids := [*getattr(args, "ids", ()), *found.get("ids", ())]:
        found["ids"] = ids
    since, until = args.since, args.until
    if "time_range" in found and (since, until) != (None, None):
        raise InvalidInput("time_range is given twice: by --where, and by --since or --until")
    if since is not None and since[:1].isdigit() and since[-1:].isalpha() and "T" not in since and "-" not in since:
        if until is not None:
            raise InvalidInput("--since with a length of time and --until don't go together; give both as ISO times")
        found["time_range"] = since
    elif since is not None or until is not None:
        found["time_range"] = (since, until)
    return cast(FilterArgs, found)


def goes_with(args: argparse.Namespace, one: str, *others: str) -> None:
    """Refuses arguments that say nothing without another one. Raises InvalidInput."""
    for other in others:
        if _given(args, other) and not _given(args, one):
            raise InvalidInput(f"{other} goes with {one}, which is not given")


def clashes(args: argparse.Namespace, one: str, *others: str) -> None:
    """Refuses arguments that another one makes meaningless. Raises InvalidInput."""
    for other in others:
        if _given(args, other) and _given(args, one):
            raise InvalidInput(f"{one} and {other} don't go together")


def _given(args: argparse.Namespace, argument: str) -> bool:
    """Whether an argument is given, and not its default: by its flag, or by the name that the help gives it."""
    action = args.arguments[argument]
    return getattr(args, action.dest) not in (action.default, [])


def filter_names() -> list[str]:
    """The flags of all filters."""
    return [*(filter_flags(one)[-1] for one in described() if not one.flags), "--since", "--until", "--where"]


def named_values(flag: str, given: list[str]) -> dict[str, Any]:
    """What was given as NAME=VALUE: values are JSON, or text without quotes. Raises InvalidInput."""
    found: dict[str, Any] = {}
    for one in given:
        name, mark, value = one.partition("=")
        if not mark:
            raise InvalidInput(f"{flag} is written NAME=VALUE; found {one!r}")
        try:
            found[name.strip()] = loads(value)
        except InvalidInput:
            found[name.strip()] = value
    return found


def print_json(value: Any) -> None:
    """One JSON value and a newline, on stdout."""
    sys.stdout.flush()
    sys.stdout.buffer.write(encode(value) + b"\n")


def progress(what: str, total: int | None = None) -> Callable[[int], None]:
    """A function to call with the number done so far: a bar on stderr where that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        return lambda done: None
    from tqdm import tqdm

    bar = tqdm(total=total, desc=what, file=getattr(sys.stderr, "unguarded", sys.stderr), leave=False, dynamic_ncols=True)

    def update(done: int) -> None:
        bar.update(done - bar.n)
        if total is not None and done >= total:
            bar.close()

    return update


def bytes_bar(what: str = "bytes") -> Callable[[int, int], None]:
    """What draws how many bytes are done, on a terminal."""
    bar: list[Callable[[int], None]] = []

    def tell(done: int, total: int) -> None:
        if not bar:
            bar.append(progress(what, total))
        bar[0](done)

    return tell


def stop_signals() -> list[signal.Signals]:
    """The signals that end a server in order: what Ctrl-C sends, what supervisors send, and what comes when a terminal closes,
    unless `nohup` ignores that."""
    hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hangup]


def tell(said: str) -> None:
    """Says something on stderr. If nobody reads stderr any more, the command goes on all the same."""
    try:
        print(said, file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
