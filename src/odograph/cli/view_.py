"""`odograph view`: a store in the browser, or pages as one file."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..api import Store, open
from ..errors import InvalidInput, MissingExtra
from ..store.filters import FilterArgs
from .common import add_filters, clashes, existing_store, filters_of, goes_with
from .labelling import add_labelling, labelling_of
from .numbers import port
from .terminal import size

if TYPE_CHECKING:
    from ..access import Right
    from ..viewer.labelling import Labelling

HELP = "look at trajectories in the browser, or write them as one HTML file"
_MOST = 1000  # trajectories that one file holds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "ids", metavar="ID", nargs="*", help="the trajectory to open (id, or a unique prefix or suffix); two: their differences"
    )
    parser.add_argument("--html", metavar="FILE", help="write one HTML file instead, which opens without a server or network")
    parser.add_argument("--redact", action="store_true", help="remove secrets from the file")
    parser.add_argument("--port", type=port, default=0, metavar="N", help="port to listen at (default: any free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    parser.add_argument("--read-only", action="store_true", help="let the page write no labels and notes")
    add_labelling(parser)
    parser.add_argument("--tokenizer", metavar="FILE", help="a tokenizer.json; shows tokens as text")
    add_filters(parser)


def run(args: argparse.Namespace) -> int:
    goes_with(args, "--html", "--redact")
    clashes(args, "--html", "--port")
    clashes(args, "--label", "ID", "--html", "--read-only")
    if len(args.ids) > 2 and not args.html:
        raise InvalidInput(f"one trajectory, or two with their differences, were expected; found {len(args.ids)} ids")
    ids, args.ids = args.ids, []  # two of them are pages, not filters
    with existing_store(args) as store:
        base = filters_of(args)
        store.count(**base)  # a wrong filter is told now
        labelling = labelling_of(args, store)
        found = [store.backend.reader.facts(id)[0] for id in ids]
        if args.html:
            return _write(args, store, found, base)
        return _serve(args, store, "#/label" if args.label else _home(found, None), base, labelling)


def _home(ids: list[str], group: str | None) -> str:
    """The page that opens first."""
    if len(ids) == 2:
        return f"#/diff?a={ids[0]}&b={ids[1]}"
    if ids:
        return f"#/t/{ids[0]}"
    return f"#/group?name={quote(group)}" if group is not None else "#/"


def _write(args: argparse.Namespace, store: Store, ids: list[str], base: FilterArgs) -> int:
    from ..viewer.answers import Answers
    from ..viewer.single import write

    group = base.get("group") if not ids else None
    chosen = ids or [s.id for s in store.summaries(newest_first=True, **base)]
    if len(chosen) > _MOST:
        raise InvalidInput(f"{len(chosen):,} trajectories are too many for a file: at most {_MOST:,}; choose with filters or -n")
    if not chosen:
        raise InvalidInput("no trajectory is chosen")
    home = _home(ids, group) if ids or group is not None else _home(chosen if len(chosen) == 1 else [], None)
    with _without_secrets(store, chosen) if args.redact else _as_it_is(store) as source:
        out = Path(args.html)
        written = write(out, Answers(source, by=args.tokenizer), chosen, home, group=group)
    print(f"{out}: {len(chosen)} trajector{'y' if len(chosen) == 1 else 'ies'}, {size(written)}")
    return 0


@contextmanager
def _as_it_is(store: Store) -> Iterator[Store]:
    yield store


@contextmanager
def _without_secrets(store: Store, ids: list[str]) -> Iterator[Store]:
    """A store in memory that holds the same trajectories without their secrets."""
    with open("memory:", redact=True) as copy:
        for id in ids:
            copy.add(store.trajectory(id))
        yield copy


def _serve(args: argparse.Namespace, store: Store, home: str, base: FilterArgs, labelling: Labelling | None) -> int:
    if find_spec("aiohttp") is None:
        raise MissingExtra("odograph view", "view")
    from ..access import Access, listen
    from ..viewer.answers import Answers
    from ..viewer.live import Live
    from ..viewer.routes import Routes
    from ..viewer.serving import address, serve

    right: Right = "read" if args.read_only else "label"
    answers = Answers(store, base=base, by=args.tokenizer)
    at = listen("127.0.0.1", args.port)
    port = at.getsockname()[1]
    access = Access.of("127.0.0.1", port, token=None, right=right)
    (token,) = access.tokens
    routes = Routes(answers, Live(store), labelling)
    url = address("127.0.0.1", port, token) + ("" if home == "#/" else home)

    def ready() -> None:
        print(url, flush=True)
        print("Anyone with this address can read the store. Ctrl-C ends the server.", file=sys.stderr)
        if not args.no_browser:
            _browse(url)

    try:
        asyncio.run(serve(routes.table(), access, at, ready=ready))
    finally:
        routes.close()
    return 0


def _browse(url: str) -> None:
    """Opens the user's browser, where there is one."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
