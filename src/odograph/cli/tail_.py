"""`odograph tail`: the newest records, and with -f those that are being written."""

from __future__ import annotations

import argparse
import sys
import time

from ..clock import iso_time
from ..codec import encode, record_to_dict
from ..types import Action, AnyRecord, Context, Edit, End, Label, LLMCall, Note, Reward, Start, StepStart
from .common import add_json, existing_store, print_json
from .numbers import count
from .terminal import cut, line, number, paint, width

HELP = "show the newest records; -f follows new records"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", nargs="?", metavar="ID", help="show only this trajectory")
    parser.add_argument("-f", "--follow", action="store_true", help="also show new records of all processes, until Ctrl-C")
    parser.add_argument("-n", "--limit", type=count, default=20, metavar="N", help="start with the last N records (default: 20)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with existing_store(args) as store:
        only = store.trajectory(args.id).id if args.id else None
        tail = store.tail(args.limit, only)
        try:
            while True:
                for record in tail:
                    if args.json:
                        print_json(record_to_dict(record))
                    else:
                        print(cut(one_line(record), width()))
                sys.stdout.flush()
                if not args.follow:
                    return 0
                time.sleep(0.2)
        except KeyboardInterrupt:
            return 0


def one_line(record: AnyRecord) -> str:
    """A record in a line: when, which trajectory, what."""
    when = (iso_time(record.source_time or record.time) or "")[11:23]
    step = "" if record.step is None else f" #{record.step}"
    return f"{when} {record.trajectory[-8:]}{step} {paint(str(record.__struct_config__.tag), 'bold')} {line(_what(record))}"


def _what(record: AnyRecord) -> str:
    match record:
        case Start():
            return f"{record.agent or ''} {_text(record.task)}"
        case StepStart():
            return _text(record.observation)
        case Context():
            return f"{record.provider} {_text(record.query)}"
        case LLMCall():
            return f"{record.model or ''} {_text(record.error if record.error is not None else record.response)}"
        case Action():
            return f"{record.name} {'' if record.ok is None else 'ok' if record.ok else 'failed'} {_text(record.result)}"
        case Reward():
            return f"{record.name} {number(record.value) if not isinstance(record.value, dict) else 'nan'}"
        case Edit():
            return record.reason or record.rejected or ""
        case Label():
            return f"{record.technique} {_text(record.value)}"
        case Note():
            return f"{record.name or ''} {_text(record.data)}"
        case End():
            return f"{record.status} {_text(record.answer)}"


def _text(value: object) -> str:
    return "" if value is None else (value if isinstance(value, str) else encode(value).decode())[:500]
