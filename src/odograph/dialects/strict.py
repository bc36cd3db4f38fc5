"""JSON schemas in the form that servers can hold an answer to: strict structured outputs.

Source: https://platform.openai.com/docs/guides/structured-outputs: each object lists all its properties as required and allows no
others, and only some keywords are known.
"""

from __future__ import annotations

from typing import Any

_KNOWN = {
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs", "title",
    "format", "description", "pattern", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "minItems",
    "maxItems",
}  # fmt: skip
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")


class _Loose(Exception):
    """A schema says something that has no strict form."""


def strict(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema with all properties required and no others allowed; None where it has no strict form."""
    try:
        return _strict(schema)
    except _Loose:
        return None


def is_strict(schema: Any) -> bool:
    """Whether a schema is in strict form as it stands."""
    return isinstance(schema, dict) and strict(schema) == schema


def _strict(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict) or not schema:
        raise _Loose
    if "$ref" in schema:  # nothing stands beside a reference
        return {"$ref": schema["$ref"], **({"$defs": _each(schema["$defs"])} if "$defs" in schema else {})}
    out = {k: v for k, v in schema.items() if k != "default"}
    if not out.keys() <= _KNOWN or out.get("format", "date") not in _FORMATS:
        raise _Loose
    if "object" in (out.get("type"), *(out["type"] if isinstance(out.get("type"), list) else ())):
        if not out.get("properties") or out.get("additionalProperties", False) is not False:
            raise _Loose
        names = list(out["properties"])
        given = out.get("required")
        same = isinstance(given, list) and sorted(map(str, given)) == sorted(names)
        out["required"], out["additionalProperties"] = (given if same else names), False
    if out.get("type") == "array" and "items" not in out:
        raise _Loose
    for name in ("properties", "$defs"):
        if name in out:
            out[name] = _each(out[name])
    if "items" in out:
        out["items"] = _strict(out["items"])
    if "anyOf" in out:
        out["anyOf"] = [_strict(one) for one in out["anyOf"]]
    return out


def _each(named: Any) -> dict[str, Any]:
    if not isinstance(named, dict):
        raise _Loose
    return {name: _strict(inner) for name, inner in named.items()}
