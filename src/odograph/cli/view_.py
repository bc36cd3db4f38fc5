"""`odograph view`: a store in the browser, or a page as one file."""

from __future__ import annotations

import argparse
import asyncio
import sys

from ..errors import InvalidInput, MissingExtra
from .common import add_filters, existing_store, filters_of

HELP = "look at trajectories in the browser"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", nargs="?", help="open at this trajectory: the id, or a unique prefix or suffix of it")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port to listen at (default: any free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    parser.add_argument("--read-only", action="store_true", help="let the page write no labels and notes")
    add_filters(parser)


def run(args: argparse.Namespace) -> int:
    if not 0 <= args.port < 1 << 16:
        raise InvalidInput(f"--port is a whole number from 0 to 65,535, not {args.port}")
    try:
        import aiohttp
    except ImportError:
        raise MissingExtra("odograph view", "view") from None
    del aiohttp
    from ..viewer.access import Access, Right
    from ..viewer.answers import Answers
    from ..viewer.live import Live
    from ..viewer.routes import Routes
    from ..viewer.serving import address, listen, serve

    with existing_store(args) as store:
        right: Right = "read" if args.read_only else "label"
        base = filters_of(args)
        store.count(**base)  # a wrong filter is told now
        place = f"#/t/{store.backend.reader.facts(args.id)[0]}" if args.id else ""
        at = listen("127.0.0.1", args.port)
        port = at.getsockname()[1]
        access = Access.of("127.0.0.1", port, token=None, right=right)
        (token,) = access.tokens
        routes = Routes(Answers(store, base=base, right=right), Live(store))
        url = address("127.0.0.1", port, token) + place

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
