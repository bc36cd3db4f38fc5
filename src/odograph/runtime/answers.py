"""The type of an agent's answer: its schema as servers want it, and an answer's text read as the type. Knows no agent."""

from __future__ import annotations

import contextlib
from typing import Any

from ..codec import loads, plain
from ..errors import InvalidInput
from .tools import converted


class Unchecked(dict[str, Any]):
    """The schema of a type that can't be had here, and why not. What else it allows is not known: any answer is taken."""

    def __init__(self, schema: dict[str, Any], why: str) -> None:
        super().__init__(schema)
        self.why = why


def is_wrapped(schema: dict[str, Any]) -> bool:
    """Whether an answer's type is put into an object under `answer`: the APIs want an object at the top."""
    return schema.get("type") != "object"


def wrapped(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that a model is given in the place of one that is no object."""
    inner = {k: v for k, v in schema.items() if k != "$defs"}
    about = {"type": "object", "properties": {"answer": inner}, "required": ["answer"], "additionalProperties": False}
    return about | ({"$defs": schema["$defs"]} if "$defs" in schema else {})


def answer_as(text: str, kind: Any, *, inside: bool = False) -> Any:
    """A structured answer: JSON text as a type, or as plain values where `kind` is a schema; `inside`: of an object, under
    `answer`. Raises InvalidInput."""
    text = text.strip()
    if text.startswith("```"):  # models without structured output wrap it
        text = text.strip("`").removeprefix("json").strip()
    value = loads(text)
    if inside and isinstance(value, dict) and value.keys() == {"answer"}:
        value = value["answer"]
    if not isinstance(kind, dict):
        return converted(plain(value), kind)
    if not isinstance(kind, Unchecked):
        with contextlib.suppress(ImportError):  # the extra `schema`; without it, the server's own check has to do
            _check(value, kind)
    return value


def _check(value: Any, schema: dict[str, Any]) -> None:
    """Raises InvalidInput where a value does not fit a JSON schema, ImportError without jsonschema."""
    import jsonschema

    try:
        wrong = next(jsonschema.validators.validator_for(schema)(schema).iter_errors(value), None)
    except Exception:  # it is no schema that jsonschema knows
        return
    if wrong is not None:
        place = ".".join(str(part) for part in wrong.absolute_path)
        raise InvalidInput(f"{place}: {wrong.message[:200]}" if place else wrong.message[:200])
