"""Tools: Python functions, described to a model by their type hints and docstring, and called with what it asks for.

Knows no dialect, no agent and no record.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import inspect
import re
import threading
import types
import typing
from collections import OrderedDict
from collections.abc import Awaitable, Callable, ItemsView, Iterator, KeysView, ValuesView
from contextvars import ContextVar, copy_context
from typing import Any

import msgspec

from ..codec import encode, loads
from ..dialects import Tool
from ..errors import InvalidInput, MissingExtra
from .showing import pictured, sayable, shown
from .timing import ToolError, whole

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class UsableTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool with the code that does it: `call(arguments)` gives (result, what the model sees), and raises what the tool does."""

    tool: Tool
    call: Callable[[dict[str, Any]], Awaitable[tuple[Any, str]]]
    #: The agent that does it, in steps of its own.
    agent: Any = None


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
    """A function as a tool; a tool that is one already as it is. Raises TypeError for one that can't be described."""
    if isinstance(fn, UsableTool):
        return fn
    core = fn
    while isinstance(core, functools.partial):
        core = core.func
    name = getattr(core, "__name__", None) or type(core).__name__
    if not _NAME.fullmatch(name):
        raise TypeError(f"a tool has a name of letters, digits, - and _; {name!r} has none: give a def in its place")
    signature, parts, told = _parts(fn, core, name)
    about, described = _documented(core)
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    others: Any = False
    for part in parts:
        schema, more = part.schema()
        definitions |= more
        if part.kind is _REST:
            others = schema or True
            continue
        text = described.get(part.name)
        properties[part.name] = schema | {"description": text} if text and "description" not in schema else schema
    schema = {
        "type": "object",
        "properties": properties,
        "required": [p.name for p in parts if p.required],
        "additionalProperties": others,
    }
    if definitions:
        schema["$defs"] = definitions
    is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004
    placed = any(p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL) for p in signature.parameters.values())

    async def call(arguments: dict[str, Any]) -> tuple[Any, str]:
        given = _checked(arguments, parts) | dict.fromkeys(told, using.get())
        bound = inspect.BoundArguments(signature, OrderedDict((n, given[n]) for n in signature.parameters if n in given))
        if placed:  # by their places: those before have to be there
            bound.apply_defaults()
        result = (
            await fn(*bound.args, **bound.kwargs) if is_async else await in_thread(lambda: _all(fn(*bound.args, **bound.kwargs)))
        )
        if inspect.isawaitable(result):  # a plain function that gives back a coroutine
            result = await result
        if inspect.isasyncgen(result):
            result = [item async for item in result]
        result = pictured(result)
        return result, shown(result)

    tool = Tool(name=name, description=about, parameters=schema)
    return UsableTool(tool=tool, call=call)


def _all(result: Any) -> Any:
    """What a generator, another iterator or a view of a dict gives, all of it; anything else as it is."""
    gives = isinstance(result, (Iterator, KeysView, ValuesView, ItemsView)) and not hasattr(result, "read")  # a file is none
    return list(result) if gives else result


def _checked(arguments: dict[str, Any], parts: list[_Part]) -> dict[str, Any]:
    """The arguments as the function takes them, by the names of its parameters. Raises InvalidInput."""
    known = {p.name: p for p in parts if p.kind is not _REST}
    rest = next((p for p in parts if p.kind is _REST), None)
    if rest is not None and isinstance(arguments.get(rest.name), dict):  # given under the name that the code has for them
        arguments = {k: v for k, v in arguments.items() if k != rest.name} | arguments[rest.name]
    unknown = [n for n in arguments if n not in known]
    if unknown and rest is None:
        raise InvalidInput(f"no parameter {unknown[0]!r}; there are: {', '.join(known) or 'none'}")
    missing = [p.name for p in known.values() if p.required and p.name not in arguments]
    if missing:
        raise InvalidInput(f"parameter {missing[0]!r} is missing")
    out = {n: p.convert(arguments[n]) if n in arguments else p.field.get_default(call_default_factory=True)
           for n, p in known.items() if n in arguments or p.field is not None}  # fmt: skip
    inside = {n: v for n, v in out.items() if known[n].within is not None}
    if rest is not None:
        inside |= {n: rest.convert(arguments[n], n) for n in unknown}
    within = rest.name if rest is not None else next((p.within for p in parts if p.within is not None), None)
    out = {n: v for n, v in out.items() if n not in inside}
    return out | ({within: inside} if within is not None else {})


_REST = inspect.Parameter.VAR_KEYWORD


class _Part(msgspec.Struct, frozen=True):
    """One parameter of a function."""

    name: str
    hint: Any
    required: bool
    kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
    #: What the schema says it is where it is not given.
    default: Any = msgspec.UNSET
    #: A default that is pydantic's `Field(...)`, and the `**` parameter whose TypedDict has this key.
    field: Any = None
    within: str | None = None
    #: Whether it is None where it is not given, though its type does not say so: a model may say so, too.
    optional: bool = False

    def schema(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The JSON schema of its type, and what that refers to."""
        schema, more = ({}, {}) if self.hint is Any else schema_of(self.hint)
        notes = getattr(self.hint, "__metadata__", ())
        said = next((s for n in notes if isinstance(s := getattr(n, "documentation", n), str)), None)
        if said is not None and "description" not in schema:
            schema = schema | {"description": said}
        if self.default is not msgspec.UNSET and "default" not in schema:
            schema = schema | {"default": self.default}
        return schema, more

    def convert(self, value: Any, name: str | None = None) -> Any:
        if self.hint is Any or (value is None and self.optional):
            return value
        try:
            return converted(value, self.hint)
        except InvalidInput as error:
            if isinstance(value, str):  # a list or an object that came as its JSON
                with contextlib.suppress(InvalidInput):
                    return converted(loads(value), self.hint)
            raise InvalidInput(f"parameter {name or self.name!r}: {error}") from None


def _parts(fn: Callable[..., Any], core: Callable[..., Any], name: str) -> tuple[inspect.Signature, list[_Part], list[str]]:
    """A function's signature, the parameters that the model gives, and those that take the run's context."""
    try:
        signature = inspect.signature(fn, follow_wrapped=core is fn)  # what a partial holds is no parameter any more
        hints = typing.get_type_hints(core if hasattr(core, "__annotations__") else type(core).__call__, include_extras=True)
    except (TypeError, ValueError, NameError) as error:
        raise TypeError(f"tool {name!r} can't be described: {error}") from None
    parts: list[_Part] = []
    told: list[str] = []
    for parameter in signature.parameters.values():
        hint = hints.get(parameter.name, Any)
        if hint is ToolContext or ToolContext in typing.get_args(hint):
            told.append(parameter.name)
        elif parameter.kind is _REST and getattr(typing.get_origin(hint), "_name", "") == "Unpack":  # typing's or its extensions'
            (keys,) = typing.get_args(hint)
            for key, inner in typing.get_type_hints(keys, include_extras=True).items():
                how, required = typing.get_origin(inner), key in keys.__required_keys__
                if how in (typing.Required, typing.NotRequired):  # which `__required_keys__` misses in annotations that are text
                    inner, required = typing.get_args(inner)[0], how is typing.Required
                parts.append(_Part(key, inner, required, within=parameter.name))
        elif parameter.kind in (_REST, parameter.VAR_POSITIONAL):
            parts.append(
                _Part(parameter.name, hint if parameter.kind is _REST else types.GenericAlias(list, hint), False, parameter.kind)
            )
        else:
            parts.append(_part(parameter, hint))
    for part in parts:
        try:
            part.schema()
        except TypeError as error:
            raise TypeError(f"tool {name!r}: parameter {part.name!r}: {error}") from None
    return signature, parts, told


def _part(parameter: inspect.Parameter, hint: Any) -> _Part:
    """A parameter as its function declares it; a default that is pydantic's `Field(...)` says more of its type."""
    default = parameter.default
    if type(default).__name__ == "FieldInfo" and type(default).__module__.startswith("pydantic"):
        required = default.is_required()
        return _Part(parameter.name, typing.Annotated[hint, default], required, field=None if required else default)
    if default is parameter.empty:
        return _Part(parameter.name, hint, True)
    try:
        known = loads(encode(default)) if default is not None else msgspec.UNSET
    except InvalidInput:
        known = msgspec.UNSET
    said = msgspec.UNSET if known is msgspec.UNSET or encode(known) != encode(sayable(default)) else known
    return _Part(parameter.name, hint, False, default=said, optional=default is None)


def schema_of(kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON schema of a type (builtins, Literal, dataclasses, TypedDict, msgspec, pydantic), and its definitions."""
    try:
        if _is_of_pydantic(kind):
            raise TypeError("constraints of pydantic")
        (schema,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
        return schema, components
    except TypeError:
        try:
            made: dict[str, Any] = _pydantic(kind).json_schema()
        except Exception:  # pydantic is not installed, or knows no schema of it either
            known = "JSON's own types, dataclasses, TypedDicts, enums, msgspec's and pydantic's types"
            raise TypeError(f"no JSON schema of {kind!r}; there are schemas of {known}") from None
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
            raise InvalidInput(_brief(error)) from None
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error)) from None


def _brief(error: ValueError) -> str:
    """What pydantic finds wrong, without the addresses of its pages."""
    found = error.errors() if hasattr(error, "errors") else []
    places = [(".".join(str(part) for part in one["loc"]), one["msg"]) for one in found]
    return "; ".join(f"{place}: {what}" if place else what for place, what in places) or str(error)


def _is_of_pydantic(kind: Any, deep: int = 0) -> bool:
    """Whether a type, or one inside of it, is annotated with what pydantic or annotated-types know and msgspec passes over."""
    notes = getattr(kind, "__metadata__", ())
    if any(type(note).__module__.split(".")[0] in ("pydantic", "annotated_types") for note in notes):
        return True
    inside = typing.get_args(kind)
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        with contextlib.suppress(Exception):  # a name that is not known: the schema says so
            inside = tuple(typing.get_type_hints(kind, include_extras=True).values())
    return deep < _DEEPEST and any(_is_of_pydantic(part, deep + 1) for part in inside)


_DEEPEST = 4  # levels of a type that are looked through


def _pydantic(kind: Any) -> Any:
    import pydantic

    return pydantic.TypeAdapter(kind)


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
            failure = ToolError(whole(error))
        if isinstance(failure, StopIteration):  # which a future can't hold
            failure = ToolError("StopIteration")
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name="odograph-tool", daemon=True).start()
    return await future
