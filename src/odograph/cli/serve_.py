"""`odograph serve`: a store in the browsers of a team."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import secrets
import ssl
import sys
from importlib.util import find_spec

from ..access import Access, Right, is_loopback, listen
from ..errors import InvalidInput, MissingExtra, StoreError
from .common import add_filters, add_json, existing_store, filters_of, goes_with, print_json
from .labelling import add_labelling, labelling_of
from .numbers import port

_MAY: dict[str, str] = {"read": "read", "label": "read and label", "record": "read, label and record"}
HELP = "share a store with a team: the pages of `odograph view`, with tokens"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="listen here (default: 127.0.0.1); others need a token")
    parser.add_argument("--port", type=port, default=8787, help="listen on this port (default: 8787; 0: any free port)")
    parser.add_argument(
        "--record-token",
        metavar="TOKEN",
        help="token that allows to record from other machines, to label and to read (default: $ODOGRAPH_SERVE_RECORD_TOKEN)",
    )
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        help="token that allows to read, and to write labels and notes (default: $ODOGRAPH_SERVE_TOKEN)",
    )
    parser.add_argument("--read-token", metavar="TOKEN", help="token that allows to read (default: $ODOGRAPH_SERVE_READ_TOKEN)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="also answer to this Host; may be repeated",
    )
    parser.add_argument(
        "--identity-header",
        metavar="NAME",
        help="header that names the person who labels; a reverse proxy sets it, and sends a token as Authorization: Bearer",
    )
    parser.add_argument("--tls-cert", metavar="FILE", help="serve HTTPS with this certificate (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="the certificate's key (default: in the certificate's file)")
    add_labelling(parser)
    parser.add_argument("--tokenizer", metavar="FILE", help="a tokenizer.json; shows tokens as text")
    add_json(parser)
    add_filters(parser)


def run(args: argparse.Namespace) -> int:
    goes_with(args, "--tls-cert", "--tls-key")
    if args.identity_header is not None and not re.fullmatch(r"[A-Za-z0-9-]+", args.identity_header):
        raise InvalidInput(f"--identity-header is the name of a header, such as X-Forwarded-User, not {args.identity_header!r}")
    if find_spec("aiohttp") is None:
        raise MissingExtra("odograph serve", "view")
    from ..viewer.answers import Answers
    from ..viewer.live import Live
    from ..viewer.routes import Routes
    from ..viewer.serving import address, serve
    from ..viewer.sharing import Sharing

    tokens: dict[str, Right] = {}
    if token := args.record_token or os.environ.get("ODOGRAPH_SERVE_RECORD_TOKEN"):
        tokens[token] = "record"
    if token := args.token or os.environ.get("ODOGRAPH_SERVE_TOKEN"):
        tokens[token] = "label"
    if token := args.read_token or os.environ.get("ODOGRAPH_SERVE_READ_TOKEN"):
        tokens[token] = "read"
    if not tokens:
        if not is_loopback(args.host):
            raise InvalidInput(f"{args.host} can be reached from other machines: give --token, --read-token or --record-token")
        tokens[secrets.token_urlsafe(24)] = "label"
    tls = _tls(args.tls_cert, args.tls_key) if args.tls_cert else None
    with existing_store(args) as store:
        base = filters_of(args)
        store.count(**base)  # a wrong filter is told now
        at = listen(args.host, args.port)
        port = at.getsockname()[1]
        access = Access.several(args.host, port, tokens, args.allow_host, args.identity_header)
        answers = Answers(store, base=base, by=args.tokenizer)
        routes = Routes(answers, Live(store), labelling_of(args, store))
        sharing = Sharing(store, answers.base)
        table = [*routes.table(), *routes.operation(), *sharing.table()]

        def ready() -> None:
            for token, right in access.tokens.items():
                url = address(args.host, port, token, tls=tls is not None)
                if args.json:
                    print_json({"url": url, "right": right, "store": str(store.backend)})
                else:
                    print(f"{url} may {_MAY[right]}")
            sys.stdout.flush()
            print("Ctrl-C ends the server.", file=sys.stderr)

        try:
            asyncio.run(serve(table, access, at, ready=ready, tls=tls, log_requests=True))
        finally:
            routes.close()
            sharing.close()
    return 0


def _tls(certificate: str, key: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise StoreError(f"the certificate {certificate!r} can't be read: {error.strerror or error}") from None
    return context
