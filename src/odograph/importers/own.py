"""Our own lines -> records: what the `jsonl` export writes, and what an ATIF export carries along. No files here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from ..codec import DAMAGE, encode
from ..errors import InvalidInput
from ..store.lines import decode
from ..streams import Growing, IdsLine, MessageLine, Streams
from ..types import SCHEMA_VERSION, AnyRecord, LLMCall


def records_of_lines(lines: Iterable[Any], version: int = SCHEMA_VERSION) -> Iterator[AnyRecord]:
    """Complete records from one trajectory's lines, given as bytes or as parsed objects. Raises InvalidInput."""
    streams, lists = Streams(), Growing()
    for line in lines:
        data = line if isinstance(line, bytes) else encode(line)
        try:
            found = decode(data, "", version)
        except DAMAGE as error:
            raise InvalidInput(f"a damaged line: {error}") from None
        if isinstance(found, (MessageLine, IdsLine)):
            streams.add("", found)
        elif isinstance(found, LLMCall):
            msgspec.structs.force_setattr(found, "packed_by", "")
            yield streams.fill(found, growing=lists)
        elif found is not None:
            yield found
