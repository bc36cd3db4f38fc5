"""`odograph collect`: takes the spans and logs that instrumented agents send."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from ..access import allow_files
from ..api import open
from ..errors import MissingExtra
from .common import add_json, print_json, stop_signals, tell
from .numbers import port, seconds

HELP = "receive OpenTelemetry: spans and logs of agents become sessions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="listen here (default: 127.0.0.1); others need --token")
    parser.add_argument("--port", type=port, default=4318, help="listen on this port (default: 4318; 0: any free port)")
    parser.add_argument("--grpc", type=port, metavar="PORT", help="listen for OTLP over gRPC on this port, too (usual: 4317)")
    parser.add_argument("--token", metavar="TOKEN", help="require this token of every sender (default: $ODOGRAPH_COLLECT_TOKEN)")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="also accept this Host header; may be repeated"
    )
    parser.add_argument(
        "--quiet",
        type=seconds,
        default=3.0,
        metavar="SECONDS",
        help="write a session after this many seconds without a span (default: 3)",
    )
    parser.add_argument("--redact", action="store_true", help="make a new store that removes secrets from what is received")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    try:
        from ..collector.collecting import Collector
        from ..collector.receiver import Receiver
        from ..collector.serving import serve
    except ImportError:
        raise MissingExtra("odograph collect", "collect") from None
    allow_files()
    token = args.token or os.environ.get("ODOGRAPH_COLLECT_TOKEN")
    with open(args.store, redact=args.redact or None) as store, Collector(store, quiet=args.quiet) as collector:
        receiver = Receiver(collector, host=args.host, token=token, hosts=args.allow_host)

        async def main() -> None:
            stop = asyncio.Event()
            for signum in stop_signals():
                asyncio.get_running_loop().add_signal_handler(signum, stop.set)
            async with serve(receiver, collector, args.host, args.port, args.grpc, token) as urls:
                if args.json:
                    print_json({"urls": urls, "store": str(store.backend)})
                    sys.stdout.flush()
                tell(f"odograph: {urls[0]} receives into {store.backend}; Ctrl-C ends")
                tell(f"odograph: OTEL_EXPORTER_OTLP_ENDPOINT={urls[0]} sends here")
                await stop.wait()

        asyncio.run(main())
        spans = collector.counts["spans"]
    tell(f"odograph: {spans:,} spans received")
    return 0
