"""Wire formats of model APIs: what a request and a response say, in one common shape. One dialect a file.

This is the door: it finds a dialect by name, by the path of a URL and by the looks of a body. Our own come through the same door
as those of others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

from .. import guard
from ..errors import InvalidInput, OdographError, described
from ..plugins import Door
from ..prefix import Prefix
from . import defaults
from .content import as_json
from .shapes import Alternative, Assembly, Choice, Dialect, Path, Result, Tool, ToolCall, Usage

__all__ = [
    "NAMES",
    "Alternative",
    "Assembly",
    "Choice",
    "Dialect",
    "Path",
    "Resent",
    "Result",
    "Tool",
    "ToolCall",
    "Usage",
    "answers",
    "find",
    "get",
    "ids_at",
    "is_complete",
    "is_decision",
    "names",
    "of",
    "of_fetch",
    "of_path",
    "of_response",
    "prompt_ids",
    "purpose",
    "resent",
    "spoken",
]

#: Our own are the files of this folder; a package brings others by an entry point, a user by a file.
_DOOR = Door("dialect", "odograph.dialects", __name__, ("NAME", "PATHS"))
#: The names of our own.
NAMES: tuple[str, ...]
#: Those of others, by their own names: their calls are recorded and read once they were found.
_found: dict[str, Dialect] = {}
#: What they were asked for by.
_asked: dict[str, str] = {}


def __getattr__(name: str) -> Any:
    if name != "NAMES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(__all__)}")
    return tuple(_ours())


@cache
def _ours() -> dict[str, Dialect]:
    return {found.NAME: _whole(found) for found in _DOOR.builtin()}


def names() -> list[str]:
    """The names of all dialects: our own, and what others bring (entry points `odograph.dialects`, and what `find` was given)."""
    return list(dict.fromkeys((*_ours(), *_found, *_DOOR.offered)))


def find(name: str) -> Dialect:
    """The dialect of a name or a short name, of `package:object`, or of a Python file; its name is known from then on.

    Raises UnknownName, NotFound, InvalidInput.
    """
    name = _asked.get(name, name)
    for known in (*_ours().values(), *_found.values()):
        if name and name in (known.NAME, known.SHORT):
            return known
    dialect = _named(_whole(_checked(name, _DOOR.find(name))))
    if dialect.NAME in _ours():
        raise InvalidInput(f"{name} calls its dialect {dialect.NAME!r}, which is one of ours; another name was expected")
    _found[dialect.NAME] = dialect
    _asked[name] = dialect.NAME
    get.cache_clear()
    resent.cache_clear()
    return dialect


def spoken(name: str) -> Dialect:
    """`find`, of a dialect that an agent or a judge can speak. Raises InvalidInput for one that can be recorded only."""
    dialect = find(name)
    if not _speakable(dialect):
        able = ", ".join(d.NAME for d in _known() if _speakable(d))
        raise InvalidInput(f"{dialect.NAME} can be recorded, but agents can't use the dialect; agents use: {able}")
    return dialect


def _speakable(dialect: Dialect) -> bool:
    return hasattr(dialect, "request")


@cache
def get(name: str | None) -> Dialect:
    """The dialect of a name in a record; one that is not known reads as OpenAI chat, the shape that others imitate."""
    ours = _ours()
    if name is not None and name not in ours and name not in _found and name in _DOOR.offered:
        _load(name)
    return ours.get(name or "") or _found.get(name or "") or ours["openai.chat"]


def _known() -> Iterator[Dialect]:
    """All dialects; those of others that can't be had are told of once, and are none."""
    yield from _ours().values()
    for name in _DOOR.offered:
        _load(name)
    yield from list(_found.values())


@cache
def _load(name: str) -> None:
    try:
        find(name)
    except Exception as error:  # the file of another must not cost a record
        guard.warn(f"the dialect {name!r} of an installed package is left out: {described(error)}", stacklevel=2)


def _whole(found: Any) -> Dialect:
    """A dialect with every member: its own, else the default."""
    whole: dict[str, Any] = {
        "speaks": lambda path: path.endswith(tuple(found.PATHS)),
        "outgoing": lambda body, model: (found.PATHS[0], body),
        "answers": lambda request, response: whole["choices"](response),
    }
    for member in {*vars(Dialect), *Dialect.__annotations__}:
        value = getattr(found, member, getattr(defaults, member, None))
        if value is not None and not member.startswith("_"):
            whole[member] = value
    return cast(Dialect, SimpleNamespace(**whole))


def _checked(name: str, found: Any) -> Any:
    """A stranger's dialect. Raises InvalidInput for a member of another kind: a text as PATHS would be the ends of most URLs."""
    if not isinstance(found.NAME, str) or not found.NAME:
        raise InvalidInput(f"{name!r} is no dialect: NAME is a text, not {found.NAME!r}")
    for member in ("PATHS", "LISTS", "VALUES"):
        given = getattr(found, member, ())
        whole = isinstance(given, (tuple, list)) and all(isinstance(one, str) and one for one in given)
        if not whole or (member == "PATHS" and not given and not hasattr(found, "speaks")):
            raise InvalidInput(f"{name!r} is no dialect: {member} is a tuple of texts, not {given!r}")
    return found


#: What a dialect's functions give, and what their lists hold, where others go through it.
_GIVEN: dict[str, tuple[type, type]] = {
    "messages": (list, dict),
    "choices": (list, Choice),
    "answers": (list, Choice),
    "history": (list, object),
    "said": (list, object),
    "results": (list, object),
    "request": (dict, object),
    "usage": (Usage, object),
}


def _named(dialect: Dialect) -> Dialect:
    """A stranger's dialect, whose failures name the dialect and not the agent, judge or view that asked it."""

    def named(member: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        kind, items = _GIVEN.get(member, (object, object))

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                found = fn(*args, **kwargs)
            except OdographError:
                raise
            except Exception as error:
                raise InvalidInput(f"the dialect {dialect.NAME!r} failed in {member}(): {described(error)}") from error
            if not isinstance(found, kind):
                given = f"{type(found).__name__}; {kind.__name__} was expected"
            elif isinstance(found, list) and not all(isinstance(odd := one, items) for one in found):
                given = f"a list with {type(odd).__name__}; a list of {items.__name__} was expected"
            else:
                return found
            raise InvalidInput(f"the dialect {dialect.NAME!r} gave in {member}() {given}")

        return call

    for member, value in list(vars(dialect).items()):
        if callable(value):
            setattr(dialect, member, named(member, value))
    return dialect


def of(record: Any) -> Dialect:
    """The dialect of a call's record: the one that it names, else the one that its response looks like."""
    return of_response(record.response, record.dialect)


def of_response(response: Any, name: str | None) -> Dialect:
    """The dialect of a response body: the named one, else the one that it looks like."""
    if name is None and isinstance(response, dict) and "role" not in response:  # one message is what callers give most
        for dialect in _ours().values():
            if dialect.NAME != "openai.chat" and dialect.is_response(response):  # others imitate its looks
                return dialect
    elif name is None and isinstance(response, dict):
        claude = get("anthropic.messages")
        return claude if claude.is_response(response) else get(None)
    return get(name)


def answers(record: Any) -> list[Choice]:
    """All answers of a call's record. A response that did not cross a wire may be any JSON: one that is of no dialect is the
    text of one answer, as compact JSON."""
    dialect = of(record)
    found = dialect.answers(record.request, record.response)
    return [decision(record.response)] if not found and is_decision(record) else found


def is_decision(record: Any) -> bool:
    """Whether a call's response is an answer that is no text, and no body or message of a dialect: an agent's decision, say."""
    given = record.response
    if given is None or isinstance(given, str) or record.origin == "wire":
        return False
    dialect = of(record)
    if dialect.is_response(given) or dialect.choices(given):
        return False
    if not isinstance(given, dict):
        return True
    # a body that says why there is no answer is none
    return not (isinstance(given.get("error"), dict) and len(given) == 1)


def decision(given: Any) -> Choice:
    """An answer of any JSON as a choice."""
    text = as_json(given)
    return Choice(message={"role": "assistant", "content": text}, text=text)


def of_path(path: str) -> Dialect | None:
    """The dialect that a URL path speaks, or None."""
    path = path.rstrip("/")
    return next((dialect for dialect in _known() if dialect.speaks(path)), None)


def of_fetch(path: str) -> tuple[Dialect, str] | None:
    """The dialect of which a GET of a URL path fetches an answer, and that answer's id; or None."""
    for dialect in _known():
        id = dialect.fetched(path.rstrip("/"))
        if id is not None:
            return dialect, id
    return None


def purpose(dialect: Dialect, path: str) -> str:
    """What a call of a URL path is for."""
    path = path.rstrip("/")
    return next((purpose for end, purpose in dialect.PURPOSES.items() if re.search(f"(?:{end})$", path)), "act")


def is_complete(dialect: Dialect, body: Any) -> bool:
    """Whether a body that a stream amounts to says of each answer why it ended."""
    found = dialect.choices(body)
    return bool(found) and dialect.later(body) is None and all(c.finish_reason is not None for c in found)


def finishes(event: Any) -> bool:
    """Whether an event of a stream, in any dialect, says why an answer ended. Events may follow it: counts, or none for long."""
    if not isinstance(event, dict):
        return False
    found = event.get("choices") or event.get("candidates")
    if isinstance(found, list):
        return any(isinstance(c, dict) and (c.get("finish_reason") or c.get("finishReason")) is not None for c in found)
    delta = event.get("delta")
    return isinstance(delta, dict) and delta.get("stop_reason") is not None


class Resent:
    """What of a dialect's calls is stored once; where the dialect is not known, what is so in any of ours."""

    __slots__ = ("answer_ids", "lists", "names", "prompt_ids", "sent_ids")

    def __init__(self, dialects: list[Dialect]) -> None:
        def all_of(member: str) -> tuple[Any, ...]:
            return tuple(dict.fromkeys(item for d in dialects for item in getattr(d, member)))

        self.lists: tuple[str, ...] = all_of("LISTS")
        self.names = frozenset((*self.lists, *all_of("VALUES")))
        #: Ids given by hand come before those of a body.
        self.prompt_ids: tuple[Path, ...] = (("prompt_token_ids",), *all_of("PROMPT_IDS"))
        #: The fields of a request that may hold some.
        self.sent_ids = frozenset(str(path[1]) for path in self.prompt_ids if path[0] == "request")
        self.answer_ids: tuple[Path, ...] = (("tokens", 0, "token_ids"), *all_of("ANSWER_IDS"))


@cache
def resent(name: str | None) -> Resent:
    """What of the calls of a dialect is stored once."""
    ours = list(_ours().values())
    return Resent(ours if name is None or name in _ours() else [get(name), *ours])


def ids_at(fields: Any, path: Path) -> list[Any] | None:
    """The token ids that stand at a place in a call's fields, if any do."""
    value = _at(fields, path)
    # a request's prompt may also be texts, or the ids of several prompts
    return value if type(value) is list and value and (path[0] != "request" or type(value[0]) is int) else None


def _at(fields: Any, path: Path) -> Any:
    value: Any = fields
    for key in path:
        if type(value) is dict:
            value = value.get(key)
        elif type(value) is list and type(key) is int and -len(value) <= key < len(value):
            value = value[key]
        else:
            return None
    return value


def prompt_ids(record: Any) -> list[Any] | None:
    """The token ids of a call's prompt: those that were given beside it, else those of its body, else those that were sent. None
    where there are none, or where the request has several prompts."""
    if record.prompt_token_ids is not None:
        given: list[Any] | Prefix = record.prompt_token_ids
        return given[:] if type(given) is Prefix else given
    dialect = of(record)
    if dialect.prompts(record.request) > 1:
        return None
    body = {"request": record.request, "response": record.response}
    return next((ids for path in dialect.PROMPT_IDS if (ids := ids_at(body, path)) is not None), None)


def takes_batches(name: str | None) -> bool:
    """Whether a request of a dialect may have several prompts."""
    return get(name).prompts is not defaults.prompts


def batch_ids(record: Any) -> list[list[Any] | None]:
    """The token ids of each prompt of a request with several prompts, as they were sent or as each answer states them; an empty
    list where the request has one prompt."""
    dialect = of(record)
    count = dialect.prompts(record.request)
    if count < 2:
        return []
    body = {"request": record.request, "response": record.response}
    found: list[list[Any] | None] = [None] * count
    for path in dialect.PROMPT_IDS:
        if path[0] == "request":
            sent = _at(body, path)
            if type(sent) is list and len(sent) == count and all(type(ids) is list for ids in sent):
                return list(sent)
        elif 0 in path:  # a place in the first choice: in each choice
            at = path.index(0)
            for number, choice in enumerate(answers(record)):
                ids = ids_at(body, (*path[:at], number, *path[at + 1 :]))
                found[choice.prompt] = found[choice.prompt] or ids
    return found
