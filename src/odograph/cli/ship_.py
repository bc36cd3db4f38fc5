"""`odograph ship`: what waits on this machine goes to the server of its store."""

from __future__ import annotations

import argparse

from ..errors import InvalidInput
from .common import add_json, existing_store, print_json
from .terminal import paint, size

HELP = "send the records that wait on this machine to the server of their store"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with existing_store(args) as store:
        if store.backend.place.remote is None:
            raise InvalidInput(
                f"{str(store.backend)!r} is not served elsewhere, so no records wait here; name a served store as https://HOST"
            )
        before = store.health()["unshipped"]
        store.flush()
        if args.json:
            print_json({"store": str(store.backend), "shipped": before})
        else:
            print(paint(f"shipped {size(before)} to {store.backend}" if before else "nothing waits", "green"))
    return 0
