"""`odograph proxy`: records the model calls of agents that send them here."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys

from ..access import allow_files
from ..api import open
from ..bulk import rarely_collected
from ..errors import InvalidInput, MissingExtra
from .common import add_json, print_json, stop_signals, tell
from .numbers import port, seconds

HELP = "record the model calls of any agent: a proxy that passes them on unchanged"
SWITCH_SECONDS = 0.0005


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--upstream",
        action="append",
        required=True,
        metavar="URL",
        help="the model's API, such as https://api.openai.com; may be repeated for several servers of one model",
    )
    parser.add_argument("--host", default="127.0.0.1", help="listen here (default: 127.0.0.1); others need --token")
    parser.add_argument("--port", type=port, default=8788, help="listen on this port (default: 8788; 0: any free port)")
    add_shared(parser)
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        help="require this token of every client, and allow control with it (default: $ODOGRAPH_PROXY_TOKEN)",
    )
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="also accept this Host header; may be repeated"
    )
    parser.add_argument(
        "--allow-origin", action="append", default=[], metavar="ORIGIN", help="accept pages of this origin; may be repeated"
    )
    parser.add_argument("--policy-version", metavar="VERSION", help="version of the weights that answer")
    parser.add_argument(
        "--drain",
        type=seconds,
        default=30.0,
        metavar="SECONDS",
        help="at the end, wait at most this many seconds for running calls",
    )
    add_json(parser)


def add_shared(parser: argparse.ArgumentParser) -> None:
    """The flags that `record` has, too."""
    parser.add_argument(
        "--tokens", action="store_true", help="ask for token ids and logprobs (vLLM, SGLang); agents don't see them"
    )
    parser.add_argument(
        "--key-variable", metavar="NAME", help="send the key in this environment variable upstream, in place of the clients' keys"
    )
    parser.add_argument("--redact", action="store_true", help="make a new store that removes secrets from what is recorded")


def key_of(args: argparse.Namespace) -> str | None:
    """The key that goes upstream. Raises InvalidInput where the variable is not set."""
    if args.key_variable is None:
        return None
    key = os.environ.get(args.key_variable)
    if not key:
        raise InvalidInput(f"--key-variable: the environment has no {args.key_variable}")
    return key


def run(args: argparse.Namespace) -> int:
    try:
        from ..proxy.service import Proxy
    except ImportError:
        raise MissingExtra("the proxy", "proxy") from None

    allow_files()
    sys.setswitchinterval(SWITCH_SECONDS)  # the thread that records lets the event loop go on sooner
    version = args.policy_version
    with open(args.store, redact=args.redact or None) as store:
        proxy = Proxy(
            store,
            args.upstream,
            host=args.host,
            port=args.port,
            token=args.token or os.environ.get("ODOGRAPH_PROXY_TOKEN"),
            key=key_of(args),
            tokens=args.tokens,
            policy=int(version) if version is not None and version.isdecimal() else version,
            hosts=args.allow_host,
            origins=args.allow_origin,
        )

        async def serve() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            drain = [args.drain]

            def stopped() -> None:
                if stop.is_set():
                    drain[0] = 0.0
                    proxy.hurry()
                stop.set()

            for signum in stop_signals():
                loop.add_signal_handler(signum, stopped)
            await proxy.open()
            if args.json:
                print_json({"url": proxy.url, "upstreams": args.upstream, "store": str(store.backend)})
                sys.stdout.flush()
            tell(f"odograph: {proxy.url} records into {store.backend}; upstream: {', '.join(args.upstream)}")
            tell("odograph: clients use this URL, or URL/t/RUN, as their base URL; Ctrl-C ends")
            gc.freeze()  # what is loaded by now stays: no stream waits until Python's collector has looked at it
            with rarely_collected():
                await stop.wait()
                await proxy.aclose(drain[0])

        asyncio.run(serve())
        tell(f"odograph: {proxy.recorded:,} calls recorded")
    return 0
