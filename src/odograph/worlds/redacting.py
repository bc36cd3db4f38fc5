"""Removes secrets from what worlds keep of a store that redacts: what is spawned, and what processors and judges write."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from ..redact import Redactor
from ..tables.schema import Column, arrow


class Redaction:
    """A store's redaction for rows of worlds. A column whose name ends in `_json` stays JSON."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._found: Counter[str] = Counter()

    def value(self, column: Column, value: Any) -> Any:
        """A value of a column without secrets; the same object where there are none."""
        if type(value) is list and column.type == "texts":
            return [self.value(column, one) for one in value]
        if type(value) is not str:
            return value
        if column.name.endswith("_json") and value:
            try:
                given = json.loads(value)
            except (ValueError, RecursionError):
                return self._redactor.text(value, self._found)
            kept = self._redactor.value(given, self._found)
            return value if kept is given or kept == given else json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
        return self._redactor.text(value, self._found)

    def array(self, column: Column, values: Any) -> Any:
        """A chunked Arrow column without secrets: each distinct text is looked at once."""
        pa = arrow()
        if column.type == "texts":
            kept = pa.array([None if one is None else self.value(column, one) for one in values.to_pylist()], values.type)
        elif column.type == "text":
            encoded = values.dictionary_encode().combine_chunks()
            encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
            kept = pa.array([self.value(column, one) for one in encoded.dictionary.to_pylist()], values.type).take(
                encoded.indices
            )
        else:
            return values
        return pa.chunked_array([kept])
