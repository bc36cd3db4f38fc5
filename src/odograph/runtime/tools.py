"""Tools: Python functions, described to a model by their type hints and docstring, and called with what it asks for.

Knows no dialect, no agent and no record.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import pathlib
import re
import threading
import typing
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from contextvars import ContextVar, copy_context
from typing import Any

import msgspec

from ..codec import encode, is_tagged, loads, plain
from ..dialects import Tool
from ..errors import InvalidInput, MissingExtra, described
from ..types import TAG

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ToolError(Exception):
    """A tool says itself that it failed; the message is what the model sees."""


class UsableTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool with the code that does it: `call(arguments)` gives (result, what the model sees), and raises what the tool does."""

    tool: Tool
    call: Callable[[dict[str, Any]], Awaitable[tuple[Any, str]]]
    #: The agent that does it, in steps of its own.
    agent: Any = None


def seen(result: Any) -> str:
    """A result as the model sees it: text as it is (but for what UTF-8 can't say), anything else as JSON."""
    return result.encode(errors="replace").decode() if isinstance(result, str) else encode(sayable(result)).decode()


class Shown(str):
    """A result as the model sees it, with images."""

    images: list[dict[str, Any]]


def shown(result: Any) -> str:
    """A tool's result as the model sees it: `seen`, with the images that are in it as images."""
    images = images_of(result)
    if not images:
        return seen(result)
    parts = result if isinstance(result, list) else [result]
    texts = [p if isinstance(p, str) else str(p.get("text") or "") for p in parts if isinstance(p, str) or _image_of(p) is None]
    told = Shown("\n".join(t for t in texts if t) or f"({len(images)} image{'s'[: len(images) > 1]})")
    told.images = images
    return told


def images_of(result: Any) -> list[dict[str, Any]]:
    """The images of a result, chat-shaped: of a part or a list of texts and parts, as chat completions, Anthropic's API or MCP
    have them. A result that holds anything else is data."""
    parts = result if isinstance(result, list) else [result]
    found = [_image_of(part) for part in parts]
    plain = all(i is not None or isinstance(p, str) or _is_text(p) for p, i in zip(parts, found, strict=True))
    return [image for image in found if image is not None] if plain else []


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _image_of(part: Any) -> dict[str, Any] | None:
    kind = part.get("type") if isinstance(part, dict) else None
    url: Any = None
    if kind == "image_url":
        url = part["image_url"].get("url") if isinstance(part.get("image_url"), dict) else part.get("image_url")
    elif kind == "image" and isinstance(part.get("source"), dict):  # Anthropic
        source = part["source"]
        url = source.get("url") or f"data:{source.get('media_type')};base64,{source.get('data')}"
    elif kind == "image" and isinstance(part.get("data"), str):  # MCP
        url = f"data:{part.get('mimeType') or part.get('mime_type') or 'image/png'};base64,{part['data']}"
    return {"type": "image_url", "image_url": {"url": url}} if isinstance(url, str) else None


def sayable(value: Any) -> Any:
    """A value as JSON that a model can read, without the store's tags: times in ISO 8601, decimals and paths as text, sets as
    lists, bytes as text or base64, and of what else JSON can't hold the text that Python prints."""
    return _untagged(loads(encode(_told(value, 0))))


def _told(value: Any, depth: int) -> Any:
    """Python's own types that JSON has no word for, in words; objects are left to the encoder."""
    if depth > 100 or value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, enum.Enum):
        return _told(value.value, depth + 1)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta | decimal.Decimal | pathlib.PurePath | uuid.UUID | complex):
        return str(value)
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(_told(key, depth + 1)): _told(v, depth + 1) for key, v in value.items()}
    if isinstance(value, set | frozenset):
        return [_told(v, depth + 1) for v in sorted(value, key=repr)]
    if isinstance(value, list | tuple | deque):
        return [_told(v, depth + 1) for v in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _told(getattr(value, f.name), depth + 1) for f in dataclasses.fields(value)}
    if isinstance(value, msgspec.Struct):
        return {name: _told(getattr(value, name), depth + 1) for name in value.__struct_fields__}
    return value


def _untagged(value: Any) -> Any:
    if isinstance(value, dict):
        if is_tagged(value):
            kind, inside = value[TAG], value.get("value")
            if kind == "mapping" and isinstance(inside, list):
                return {str(_untagged(k)): _untagged(v) for k, v in inside}
            return inside if isinstance(inside, str) else encode(inside).decode()
        return {k: _untagged(v) for k, v in value.items()}
    return [_untagged(v) for v in value] if isinstance(value, list) else value


def arguments_of(raw: Any) -> dict[str, Any]:
    """The arguments of a tool call: an object, or its JSON. Raises InvalidInput."""
    if raw is None or raw == "":
        return {}
    try:
        value = loads(raw) if isinstance(raw, str) else raw
        value = loads(value) if isinstance(value, str) else value  # some models encode them twice
    except InvalidInput as error:
        raise InvalidInput(f"the arguments are not JSON ({str(error).removeprefix('not JSON: ')}): {raw[:200]}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"the arguments are a JSON object, not {type(value).__name__}: {str(raw)[:200]}")
    return value


def sanitised(name: str) -> str:
    """A name that model APIs take for a tool."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "tool"


class ToolContext(msgspec.Struct, frozen=True):
    """What a tool may know of the run. A parameter of this type is filled in, and the model does not see it."""

    #: What `Task(context=...)` was given: connections, users, settings.
    context: Any
    task: Any
    #: Who uses the tool; the id of the tool call; and the action, in which a tool may record.
    agent: str
    tool_call_id: str | None
    action: Any


#: Of the tool that is being used.
using: ContextVar[ToolContext | None] = ContextVar("odograph_tool", default=None)


def function_tool(fn: Callable[..., Any]) -> UsableTool:
    """A function as a tool. Raises TypeError for one that can't be described."""
    core = fn
    while isinstance(core, functools.partial):
        core = core.func
    name = getattr(core, "__name__", None) or type(core).__name__
    if not _NAME.fullmatch(name):
        raise TypeError(f"a tool has a name of letters, digits, - and _; {name!r} has none: give a def in its place")
    parts = _parts(fn, core, name)
    about, described = _documented(core)
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for part in parts:
        schema, more = part.schema()
        definitions |= more
        text = described.get(part.name)
        properties[part.name] = schema | {"description": text} if text and "description" not in schema else schema
    schema = {
        "type": "object",
        "properties": properties,
        "required": [p.name for p in parts if p.required],
        "additionalProperties": any(p.rest for p in parts),
    }
    if definitions:
        schema["$defs"] = definitions
    is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004
    known = {p.name: p for p in parts if not p.rest}
    rest = any(p.rest for p in parts)
    defaults = _field_defaults(fn, core)

    told = _told_of(fn, core)

    async def call(arguments: dict[str, Any]) -> tuple[Any, str]:
        given = (
            dict.fromkeys(told, using.get())
            | _checked(arguments, known, rest)
            | {n: v for n, v in defaults.items() if n not in arguments}
        )
        result = await fn(**given) if is_async else await in_thread(lambda: _all(fn(**given)))
        if inspect.isawaitable(result):  # a plain function that gives back a coroutine
            result = await result
        if inspect.isasyncgen(result):
            result = [item async for item in result]
        return result, shown(result)

    tool = Tool(name=name, description=about, parameters=schema)
    return UsableTool(tool=tool, call=call)


def _told_of(fn: Callable[..., Any], core: Callable[..., Any]) -> list[str]:
    """The parameters that take the run's context."""
    hints = typing.get_type_hints(core if hasattr(core, "__annotations__") else type(core).__call__)
    return [name for name in inspect.signature(fn, follow_wrapped=core is fn).parameters if hints.get(name) is ToolContext]


def _field_defaults(fn: Callable[..., Any], core: Callable[..., Any]) -> dict[str, Any]:
    """The values of defaults that are given as pydantic's `Field(...)`."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(fn, follow_wrapped=core is fn).parameters.items():
        default = parameter.default
        if (
            type(default).__name__ == "FieldInfo"
            and type(default).__module__.startswith("pydantic")
            and not default.is_required()
        ):
            found[name] = default.get_default(call_default_factory=True)
    return found


def _all(result: Any) -> Any:
    """What a generator, another iterator or a view of a dict gives, all of it; anything else as it is."""
    gives = isinstance(result, (Iterator, KeysView, ValuesView, ItemsView)) and not hasattr(result, "read")  # a file is none
    return list(result) if gives else result


def _checked(arguments: dict[str, Any], known: dict[str, _Part], rest: bool) -> dict[str, Any]:
    unknown = [n for n in arguments if n not in known]
    if unknown and not rest:
        raise InvalidInput(f"no parameter {unknown[0]!r}; there are: {', '.join(known) or 'none'}")
    missing = [p.name for p in known.values() if p.required and p.name not in arguments]
    if missing:
        raise InvalidInput(f"parameter {missing[0]!r} is missing")
    return {name: known[name].convert(value) if name in known else value for name, value in arguments.items()}


class _Part(msgspec.Struct, frozen=True):
    """One parameter of a function."""

    name: str
    hint: Any
    required: bool
    rest: bool = False
    #: What the schema says it is where it is not given.
    default: Any = msgspec.UNSET

    def schema(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The JSON schema of its type, and what that refers to."""
        if self.rest:
            return {}, {}
        schema, more = ({}, {}) if self.hint is Any else schema_of(self.hint)
        if self.default is not msgspec.UNSET and "default" not in schema:
            schema = schema | {"default": self.default}
        return schema, more

    def convert(self, value: Any) -> Any:
        if self.hint is Any:
            return value
        try:
            return converted(value, self.hint)
        except InvalidInput as error:
            if isinstance(value, str):  # a list or an object that came as its JSON
                with contextlib.suppress(InvalidInput):
                    return converted(loads(value), self.hint)
            raise InvalidInput(f"parameter {self.name!r}: {error}") from None


def _parts(fn: Callable[..., Any], core: Callable[..., Any], name: str) -> list[_Part]:
    try:
        signature = inspect.signature(fn, follow_wrapped=core is fn)  # what a partial holds is no parameter any more
        hints = typing.get_type_hints(core if hasattr(core, "__annotations__") else type(core).__call__, include_extras=True)
    except (TypeError, ValueError, NameError) as error:
        raise TypeError(f"tool {name!r} can't be described: {error}") from None
    parts: list[_Part] = []
    for parameter in signature.parameters.values():
        if hints.get(parameter.name) is ToolContext:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            parts.append(_Part(parameter.name, Any, False, rest=True))
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise TypeError(f"tool {name!r}: parameter {parameter.name!r} can't be given by name")
        else:
            part = _part(parameter, hints.get(parameter.name, Any))
            try:
                part.schema()
            except TypeError as error:
                raise TypeError(f"tool {name!r}: parameter {parameter.name!r}: {error}") from None
            parts.append(part)
    return [p for p in parts if not p.rest] + [p for p in parts if p.rest]


def _part(parameter: inspect.Parameter, hint: Any) -> _Part:
    """A parameter as its function declares it; a default that is pydantic's `Field(...)` says more of its type."""
    default = parameter.default
    if type(default).__name__ == "FieldInfo" and type(default).__module__.startswith("pydantic"):
        required = default.is_required()
        hint = typing.Annotated[hint, default]
        return _Part(parameter.name, hint, required)
    if default is parameter.empty:
        return _Part(parameter.name, hint, True)
    try:
        known = loads(encode(default)) if default is not None else msgspec.UNSET
    except InvalidInput:
        known = msgspec.UNSET
    said = msgspec.UNSET if known is msgspec.UNSET or encode(known) != encode(sayable(default)) else known
    return _Part(parameter.name, hint, False, default=said)


def schema_of(kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON schema of a type (builtins, Literal, dataclasses, TypedDict, msgspec, pydantic), and its definitions."""
    try:
        if _is_of_pydantic(kind):
            raise TypeError("constraints of pydantic")
        (schema,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
        return schema, components
    except TypeError as error:
        adapter = _pydantic(kind)
        if adapter is None:
            raise TypeError(f"no JSON schema of {kind!r}: {error}") from None
        made: dict[str, Any] = adapter.json_schema()
        return made, made.pop("$defs", {})


def converted(value: Any, kind: Any) -> Any:
    """A JSON value as a type; numbers and booleans that came as text are read. Raises InvalidInput."""
    try:
        if _is_of_pydantic(kind):
            raise TypeError("constraints of pydantic")
        msgspec.json.schema_components([kind])
    except TypeError:  # a type that msgspec does not know
        try:
            return _pydantic(kind).validate_python(value)
        except ValueError as error:
            raise InvalidInput(str(error)) from None
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error)) from None


def _is_of_pydantic(kind: Any) -> bool:
    """Whether a type is annotated with what pydantic or annotated-types know and msgspec passes over."""
    notes = getattr(kind, "__metadata__", ())
    return any(type(note).__module__.split(".")[0] in ("pydantic", "annotated_types") for note in notes)


def _pydantic(kind: Any) -> Any:
    try:
        import pydantic

        return pydantic.TypeAdapter(kind)
    except Exception:  # not installed, or no type of its own either
        return None


def _documented(fn: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """What a docstring says of a function, and of each parameter (Google, NumPy, reST and Epydoc styles)."""
    text = inspect.getdoc(fn) or ""
    try:
        import docstring_parser
    except ImportError:
        raise MissingExtra("an agent with tools", "run") from None
    parsed = docstring_parser.parse(text)
    parts = [p for p in (parsed.short_description, parsed.long_description) if p]
    return "\n\n".join(parts) or text, {p.arg_name: p.description for p in parsed.params if p.description}


async def in_thread(fn: Callable[[], Any]) -> Any:
    """Calls a function in a thread of its own that nobody waits for at exit: a tool that hangs must not hold the program."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():  # the caller had enough of waiting
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def work() -> None:
        result: Any = None
        failure: BaseException | None = None
        try:
            result = context.run(fn)
        except Exception as error:
            failure = error
        except BaseException as error:  # sys.exit() in a tool ends the tool
            failure = ToolError(described(error))
        if isinstance(failure, StopIteration):  # which a future can't hold
            failure = ToolError("StopIteration")
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name="odograph-tool", daemon=True).start()
    return await future


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
    return value if isinstance(kind, dict) else converted(plain(value), kind)
