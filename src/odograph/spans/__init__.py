"""Spans of instrumentation -> records of Odograph, for files of spans and for a receiver alike. Knows no file, no network, no
store.

The way of a span:

1. A source becomes `TraceSpan`s: `sources.spans_of(value)` for parsed JSON of any tool (OTLP/JSON with spans and logs,
   Phoenix, Logfire, Langfuse, LangSmith, span objects of SDKs). Whoever has another encoding, such as OTLP's protobuf, makes
   the same value: ids as hex, times in nanoseconds, attributes as plain JSON by dotted names, a log record with `log=True`
   and a content hash as its id.
2. `groups(spans)` says which spans are one session: by the conversation or session that a span of the trace names, else by trace.
   It gives `[(key, spans)]`; a key is `("session", id, service)` or `("trace", id)`. The key of a trace changes from the
   second to the first where a later span names a session: a receiver that cannot wait adds the trace again under its session.
3. `write(spans, into, source)` makes the records of one group. `into` has the methods of `Sink`; `importers.Session("otlp",
   *key)` is one. Ids come from the ids of spans, so writing a longer list of the same session again gives the same ids:
   `store.add`'s and the importer's rules then add what is new and correct what changed. Spans may come in any order, twice,
   and without their parents.

A convention is a file with `meaning(span) -> Meaning | None` (a room of `rooms.ROOMS`, asked in that order); a program
whose one request is told in several events has `joined(spans) -> spans` too. What holds for all of them:

- A call is told once: where instrumentations nest, the innermost span with content is the call, and totals of the spans
  around it go into a note `totals`, which nothing counts.
- Requests are raw bodies where an instrumentation has them, else rebuilt in OpenAI's chat shape; either way `origin` is
  `transcript`, because nothing says that they are what crossed the wire. So they are good for SFT and for reading, and
  `validate --profile rl` says that ids are missing.
- Prompt tokens include cached ones. Parameters that an SDK invented are not in the request. Content that an emitter cut says
  so in `extra.cut` and a warning.
- `extra.span` has the ids, name and scope of the span, and the attributes and events that no field of the record holds.
"""

from .assembling import Sink, groups, write
from .common import session_of
from .rooms import ROOMS, meaning
from .sources import is_span, of_otlp, spans_of
from .span import Event, Meaning, TraceSpan

__all__ = [
    "ROOMS",
    "Event",
    "Meaning",
    "Sink",
    "TraceSpan",
    "groups",
    "is_span",
    "meaning",
    "of_otlp",
    "session_of",
    "spans_of",
    "write",
]
