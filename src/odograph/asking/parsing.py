"""What a model wrote -> the JSON value that was asked for. Lenient with form, strict with content; knows no model.

Prose and code fences around the JSON, trailing commas, comments, Python's quotes: all read. Never guessed: two answers that
differ, a key given twice, NaN, an answer that is cut off.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ..errors import InvalidInput

_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.S)
#: A string, which stays; a comma before a closing bracket, a comment, which go.
_LOOSE = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])|//[^\n]*|/\*.*?\*/', re.S)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'|[{}\[\]]', re.S)
#: Beginnings of JSON that don't parse, and characters read for them: text that is made to cost time is given up.
_TRIES = 50
_WORK = 1_000_000


class Shape(msgspec.Struct, frozen=True):
    """What an answer has to be: the JSON schema that the model is told, and how a value is checked and converted."""

    schema: dict[str, Any]
    convert: Callable[[Any], Any]


def shape(wanted: Any) -> Shape:
    """Of a JSON schema of an object (of which the required keys are checked), or of a type that msgspec knows.

    Raises TypeError for anything else.
    """
    if isinstance(wanted, dict):
        required = [k for k in wanted.get("required", ()) if isinstance(k, str)]

        def has_all(value: Any) -> Any:
            missing = [k for k in required if k not in value] if isinstance(value, dict) else required
            if missing or not isinstance(value, dict):
                raise InvalidInput(f"an object with {', '.join(required) or 'any keys'} was expected")
            return value

        return Shape(wanted, has_all)
    try:
        (schema,), parts = msgspec.json.schema_components([wanted], ref_template="#/$defs/{name}")
    except (TypeError, NotImplementedError) as error:
        raise TypeError(f"schema is a JSON schema or a type that msgspec knows, not {wanted!r}: {error}") from None
    while "$ref" in schema:
        schema = parts[schema["$ref"].rpartition("/")[2]]

    def converted(value: Any) -> Any:
        try:
            return msgspec.convert(value, wanted, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidInput(str(error)) from None

    return Shape(schema | {"$defs": parts} if parts else schema, converted)


def read(text: str, wanted: Shape) -> Any:
    """The one value of this shape in a text. Raises InvalidInput with what is wrong."""
    text = _THOUGHT.sub("", text).rpartition("</think>")[2]
    found: list[Any] = []
    why = "no JSON was found"
    for value in _wrapped(values(text), wanted.schema):
        try:
            one = wanted.convert(value)
        except InvalidInput as error:
            why = str(error)
            continue
        if one not in found:
            found.append(one)
    if not found:
        given = _lines(text, wanted.schema)
        if given is not None:
            return wanted.convert(given)
        raise InvalidInput(why)
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} answers that differ were found, where one was expected")
    return found[0]


def _wrapped(found: Iterator[Any], schema: dict[str, Any]) -> Iterator[Any]:
    """A bare list stands for an object whose one key is a list."""
    keys = list(schema.get("properties") or ())
    alone = keys[0] if len(keys) == 1 and schema["properties"][keys[0]].get("type") == "array" else None
    for value in found:
        bare = alone is not None and isinstance(value, list) and value and all(isinstance(v, dict) for v in value)
        yield {alone: value} if bare else value


def values(text: str) -> Iterator[Any]:
    """The objects and lists in a text, outermost only. Raises InvalidInput for one with a key that is given two values."""
    at = tries = work = 0
    while tries < _TRIES and work < _WORK:
        start = min((n for n in (text.find("{", at), text.find("[", at)) if n >= 0), default=-1)
        if start < 0:
            return
        got = _strict(text, start) or _loose(text, start)
        if got is None:
            tries, work = tries + 1, work + len(text) - start
            at = start + 1
        else:
            value, at = got
            yield _in_utf8(value) if "\\u" in text else value


def _in_utf8(value: Any) -> Any:
    """A value whose texts UTF-8 can hold: half a surrogate pair, which JSON can name, becomes a question mark."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_in_utf8(one) for one in value]
    if isinstance(value, dict):
        return {_in_utf8(name): _in_utf8(one) for name, one in value.items()}
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made and made[key] != value:
            raise InvalidInput(f"{key[:40]!r} is given twice")
        made[key] = value
    return made


_decoder = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_once, strict=False)


def _strict(text: str, start: int) -> tuple[Any, int] | None:
    try:
        return _decoder.raw_decode(text, start)
    except InvalidInput:
        raise
    except (ValueError, RecursionError):
        return None


def _loose(text: str, start: int) -> tuple[Any, int] | None:
    depth = 0
    for mark in _QUOTED.finditer(text, start):
        sign = mark[0]
        depth += (sign in ("{", "[")) - (sign in ("}", "]"))
        if depth == 0:
            stop = mark.end()
            break
    else:
        return None
    part = _LOOSE.sub(lambda m: m[1] or "", text[start:stop])
    try:
        return _decoder.decode(part), stop
    except InvalidInput:
        raise
    except (ValueError, RecursionError):
        pass
    try:
        tree = ast.parse(part.strip(), mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                _once([(str(getattr(k, "value", "")), ast.dump(v)) for k, v in zip(node.keys, node.values, strict=True)])
        value = ast.literal_eval(tree)
        json.dumps(value, allow_nan=False)  # sets, bytes and infinities are no JSON
        return value, stop
    except InvalidInput:
        raise
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _lines(text: str, schema: dict[str, Any]) -> dict[str, Any] | None:
    """An object written as lines, such as `**SCORE:** 0.9`: each required key once, with a number or a text."""
    made: dict[str, Any] = {}
    properties = schema.get("properties") or {}
    for key in schema.get("required") or ():
        if (properties.get(key) or {}).get("type") not in ("number", "integer", "string"):
            return None
        found = re.findall(rf"^[\s*_#>-]*{re.escape(key)}[\s*_]*[:=][*_\s]*(.+?)[*_\s]*$", text, re.I | re.M)
        if len(found) != 1:
            return None
        value: Any = found[0]
        if properties[key]["type"] != "string":
            try:
                value = json.loads(value, parse_constant=_refuse)
            except (ValueError, RecursionError):
                return None
        made[key] = value
    return made or None
