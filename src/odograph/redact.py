"""Taking secrets out of values: of what is recorded before it becomes a line, and of what is exported. Knows no files.

What is taken out leaves `[redacted:KIND]`, and the record says in `extra.redacted` how many of each kind. Token ids and logprobs
that spell a text from which something was taken go with it, and so do the chunks of a stream. What can't be judged is taken out.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from . import dialects
from .codec import encode, encode_message, is_tagged, loads, loads_or_raw, record_from_dict, record_to_dict, unfold_events
from .errors import InvalidInput
from .guard import with_room
from .prefix import Prefix, same_objects
from .types import TAG, AnyRecord

#: What `redact=` takes: True (the built-in rules), patterns (beside these rules), or a function from a text to what is kept.
Redact = bool | Iterable[str | re.Pattern[str]] | Callable[[str], str]

#: Fields that tie records together.
_TIES = frozenset(("id", "trajectory", "parent", "supersedes", "target", "base", "llm_call", "writer", "kind", "base_hash"))
#: Fields of which the API takes a few words only.
_WORDS = frozenset(("status", "origin", "logprobs_of", "unit", "source"))
#: What token ids and logprobs are.
_NUMBERS = {int, float, type(None)}
#: Fields of a response that spell its text, and those that spell the prompt, in tokens.
_SPELLED = re.compile(r"(?:^|_)(?:ids|logprobs|logprobs_result)$|^tokens$|^meta_info$")
_PROMPT = re.compile(r"^(?:prompt|input)_(?:token_)?(?:ids|logprobs|top_logprobs)$|^meta_info$")


class Redactor:
    """What to take out. One is shared by all that a store writes."""

    def __init__(self, how: Redact) -> None:
        from . import secrets  # its rules take a while to compile

        self._rules = secrets
        self._how = how
        self._function: Callable[[str], str] | None = None
        self._patterns: list[re.Pattern[str]] = []
        if how is True:
            return
        if callable(how):
            self._function = how
            return
        if isinstance(how, (str, bytes, bool)) or not isinstance(how, Iterable):
            raise TypeError(f"redact is True, a list of patterns, or a function of a text; not {type(how).__name__}")
        for pattern in how:
            try:
                self._patterns.append(re.compile(pattern))
            except (re.error, TypeError) as error:
                raise InvalidInput(f"a pattern of redact= is no regular expression: {error}") from None

    def __reduce__(self) -> tuple[Any, ...]:  # judges take it to other processes
        return Redactor, (self._how if callable(self._how) else self._patterns,)

    @classmethod
    def of(cls, how: Redact | None) -> Redactor | None:
        """That of a `redact=`; None where nothing is to be taken out."""
        return None if how is None or how is False else cls(how)

    @property
    def name(self) -> str:
        """What a manifest says of it; a pattern may be a secret itself."""
        if self._function is not None:
            return "a function"
        return f"the built-in rules and {len(self._patterns)} patterns" if self._patterns else "the built-in rules"

    def may_find(self, text: str) -> bool:
        """Whether it may find something in the JSON of values: quick, and yes too often."""
        return self._function is not None or bool(self._patterns) or TAG in text or self._rules.may_hold(text)

    def text(self, text: str, found: Counter[str]) -> str:
        """The text without what is to be taken out; counts it by kind. Never raises; what it can't judge it takes out."""
        if self._function is not None:
            try:
                kept = self._function(text)
                if isinstance(kept, str):
                    if kept != text:
                        found["function"] += 1
                    return str(kept)
            except Exception:  # its message may hold the text
                pass
            found["function_failed"] += 1
            return "[redacted:function_failed]"
        spans = [(s.start, s.stop, s.kind) for s in self._rules.secrets_in(text)]
        for pattern in self._patterns:
            spans += [(m.start(), m.end(), "pattern") for m in pattern.finditer(text) if m.end() > m.start()]
        if not spans:
            return text
        spans.sort()
        parts: list[str] = []
        at = 0
        for start, stop, kind in spans:
            if start >= at:
                parts += [text[at:start], f"[redacted:{kind}]"]
                found[kind] += 1
            at = max(at, stop)
        return "".join([*parts, text[at:]])

    def value(self, value: Any, found: Counter[str]) -> Any:
        """A value of plain JSON types with all its texts redacted; the same object where nothing was found."""

        def looked_at() -> tuple[Any, Counter[str]]:
            inside: Counter[str] = Counter()
            return self._value(value, inside), inside

        try:
            clean, inside = with_room(looked_at)
        except RecursionError:
            found["too_deep"] += 1
            return "[redacted:too_deep]"
        found.update(inside)
        return clean

    def _value(self, value: Any, found: Counter[str]) -> Any:
        kind = type(value)
        if kind is str:
            return self.text(value, found)
        if kind is list:
            items = [self._value(v, found) for v in value]
            if self._function is None:
                for n in range(1, len(value)):  # the arguments of a program
                    flag, given = value[n - 1], value[n]
                    if type(flag) is type(given) is str and flag[:1] == "-" and self._rules.is_named_secret(flag, given):
                        items[n] = "[redacted:named_secret]"
                        found["named_secret"] += 1
            return value if all(a is b for a, b in zip(items, value, strict=True)) else items
        if kind is not dict:
            return value
        if is_tagged(value) and value[TAG] in ("bytes", "text"):
            return self._bytes(value, found)
        fields: dict[str, Any] = {}
        changed = False
        pair = value.get("name") or value.get("key") if "value" in value else None  # {"name": "API_KEY", "value": ...}
        for name, old in value.items():
            called = pair if name == "value" and type(pair) is str else name
            if type(old) is str and self._function is None and self._rules.is_named_secret(called, old):
                new: Any = "[redacted:named_secret]"
                found["named_secret"] += 1
            else:
                new = self._value(old, found)
            # the names of fields are no content, and a function knows nothing of them
            key = name if len(name) < 32 and name.isidentifier() else self.text(name, found)
            changed = changed or new is not old or key != name
            fields[key] = new
        return fields if changed else value

    def _bytes(self, value: dict[str, Any], found: Counter[str]) -> Any:
        """Bytes, or text with lone surrogates, which are kept as base64."""
        inside: Counter[str] = Counter()
        try:
            self.text(base64.b64decode(value["value"]).decode("latin-1"), inside)
        except (ValueError, TypeError):
            self.text(str(value.get("value")), inside)
        found.update(inside)
        return f"[redacted:{next(iter(inside))}]" if inside else value

    # --- records ------------------------------------------------------------------------------------------------------

    def fields(self, kind: str, fields: dict[str, Any], history: History) -> tuple[dict[str, Any], Counter[str]]:
        """The fields of a record that is about to be written, whatever objects they hold, as plain JSON values without
        secrets, and how many were found of each kind."""
        found: Counter[str] = Counter()
        if kind == "llm_call":
            fields = self._call(fields, found, history)
        else:
            fields = self._plain(fields, found)
            if kind == "edit" and found:
                fields["result"] = []
                fields["rejected"] = "it put in what was redacted"
        if found:
            extra = fields.get("extra")
            extra = extra if isinstance(extra, dict) else {}
            before = extra.get("redacted")
            fields["extra"] = {**extra, "redacted": dict(found + Counter(before if isinstance(before, dict) else {}))}
        return fields, found

    def _plain(self, fields: dict[str, Any], found: Counter[str]) -> dict[str, Any]:
        """Fields as plain JSON values without secrets. What was looked at is what is kept: objects may change meanwhile."""
        data = encode(fields)
        whole = loads(data)
        if not self.may_find(data.decode()):
            return whole if isinstance(whole, dict) else {}
        if is_tagged(whole) or not isinstance(whole, dict):  # a name that JSON can't hold: nothing is known of it
            found["unreadable"] += 1
            return {}
        return {k: v if k in _TIES or k in _WORDS else self.value(v, found) for k, v in whole.items()}

    def _call(self, fields: dict[str, Any], found: Counter[str], history: History) -> dict[str, Any]:
        prompt: Counter[str] = Counter()
        answer: Counter[str] = Counter()
        rest = dict(fields)
        request = rest.pop("request", None)
        response = rest.pop("response", None)
        events = rest.pop("events", None)
        out: dict[str, Any] = {}
        if request is not None:
            lists: dict[str, Any] = {}
            if isinstance(request, dict):
                for name in dialects.resent(fields.get("dialect")).lists:
                    if isinstance(request.get(name), list | Prefix):
                        lists[name] = history.messages(
                            (fields.get("agent"), fields.get("purpose"), name), request[name], self, prompt
                        )
                other = self._plain({"request": {k: v for k, v in request.items() if k not in lists}}, prompt)["request"]
                out["request"] = {**other, **lists} if isinstance(other, dict) else other
                if list(request) != list(out["request"]):  # in the order that they had
                    out["request"] = {k: out["request"][k] for k in (*request, *out["request"]) if k in out["request"]}
            else:
                out |= self._plain({"request": request}, prompt)
        if response is not None:
            out |= self._plain({"response": response}, answer)
        if rest.get("reasoning") is not None:
            out |= self._plain({"reasoning": rest.pop("reasoning")}, answer)
        others: Counter[str] = Counter()
        tokens: dict[str, Any] = {}
        for name in ("prompt_token_ids", "tokens"):
            if name in rest:
                tokens[name] = self._tokens(rest.pop(name), others)
        if "packed" in rest:
            tokens["packed"] = rest.pop("packed")
        known = rest.get("dialect") in (None, *dialects.names())
        out |= self._plain({k: v for k, v in rest.items() if k != "dialect" or not known}, others)
        if known and "dialect" in rest:
            out["dialect"] = rest["dialect"]
        if events is not None and not answer and not others and not self._in_events(events, answer):
            out["events"] = events
        if prompt and isinstance(out.get("request"), dict):  # a prompt that was sent as ids beside its text
            for path in dialects.resent(fields.get("dialect")).prompt_ids:
                if path[0] == "request" and dialects.ids_at(out, path) is not None:
                    out["request"] = {k: v for k, v in out["request"].items() if k != path[1]}
        if prompt or answer:
            if "response" in out:
                out["response"] = _without(loads(encode(out["response"])), _SPELLED if answer else _PROMPT)
            tokens.pop("prompt_token_ids", None)
            if answer:
                tokens.pop("tokens", None)
        out |= tokens
        found.update(prompt + answer + others)
        return out

    def _tokens(self, given: Any, found: Counter[str]) -> Any:
        """Token ids and what is beside them, without the secrets in what is no number: versions, and texts of tokens."""
        if type(given) is list and _NUMBERS.issuperset(map(type, given)):
            return given
        if type(given) is list and all(type(v) is dict for v in given):
            return [{k: self._tokens(v, found) for k, v in choice.items()} for choice in given]
        return self._plain({"tokens": given}, found).get("tokens")

    def _in_events(self, events: Any, found: Counter[str]) -> bool:
        """Whether something is to be taken out of a stream's chunks: what each place of them says one after the other counts."""
        try:
            said: dict[Any, list[str]] = {}
            for event in unfold_events(events):
                self.value(event, found)
                for path, text in _texts(event, ()):
                    said.setdefault(path, []).append(text)
            for pieces in said.values():
                self.text("".join(pieces), found)
        except Exception:
            found["unreadable"] += 1
        return bool(found)

    def record(self, record: AnyRecord, history: History) -> AnyRecord:
        """A complete record, redacted; the same object where nothing was found."""
        raw = record_to_dict(record)
        done, found = self.fields(str(raw["kind"]), raw, history)
        if not found:
            return record
        return record_from_dict({**{k: v for k, v in raw.items() if k in _TIES}, **done})


class History:
    """The messages of one trajectory that were looked at: agents resend them at every call, so only new ones cost anything."""

    def __init__(self, raw: bool = True) -> None:
        #: Whether messages come back as bytes, to be written, or as values. Then an object that comes again is the same message.
        self._raw = raw
        self._last: dict[Any, _Looked] = {}

    def messages(self, key: Any, messages: list[Any] | Prefix, by: Redactor, found: Counter[str]) -> list[Any] | Prefix:
        """The messages as JSON, redacted. A `Prefix` of values stays one: of a history that grows, only what is new costs."""
        last = self._last.setdefault(key, _Looked())
        before = last.seen
        if self._raw:
            start = 0
        elif type(messages) is Prefix and messages.base is last.base and len(messages) >= len(before):
            start = len(before)
        else:
            start = same_objects(last.given, messages[:])
        if start < len(before):
            last = self._last[key] = last.first(start)
        for index, message in enumerate(messages[start:], start):
            seen = self._looked_at(message, before[index] if index < len(before) else None, by)
            last.add(None if self._raw else message, seen)
        last.base = messages.base if type(messages) is Prefix else None
        if last.totals:
            found.update(last.totals[-1])
        return Prefix(last.kept) if type(messages) is Prefix and not self._raw else last.kept[:]

    def _looked_at(self, message: Any, before: _Seen | None, by: Redactor) -> _Seen:
        raw = type(message) is msgspec.Raw
        data = bytes(message) if raw else encode_message(message)
        if before is not None and before.data == data:
            return before if self._raw or before.found else before._replace(kept=message)
        inside: Counter[str] = Counter()
        kept: Any = msgspec.Raw(data) if self._raw else message
        if (raw and b"\\" in data) or by.may_find(data.decode("utf-8", "replace")):
            clean = by.value(loads_or_raw(data), inside)
            if inside:
                clean = _without(clean, _SPELLED)
                kept = msgspec.Raw(encode(clean)) if self._raw else loads(encode(clean))
        return _Seen(data, kept, inside)


class _Seen(NamedTuple):
    """A message that was looked at: its JSON, what is kept of it, and what was found in it."""

    data: bytes
    kept: Any
    found: Counter[str]


class _Looked:
    """A list of messages that was looked at. Lists that were handed out share `kept`, so that it only grows."""

    __slots__ = ("base", "given", "kept", "seen", "totals")

    def __init__(self) -> None:
        #: Where the list was a `Prefix`: of what.
        self.base: list[Any] | None = None
        self.given: list[Any] = []
        self.seen: list[_Seen] = []
        self.kept: list[Any] = []
        #: What was found up to each message: one counter for all messages until more is found.
        self.totals: list[Counter[str]] = []

    def add(self, message: Any, seen: _Seen) -> None:
        self.given.append(message)
        self.seen.append(seen)
        self.kept.append(seen.kept)
        total = self.totals[-1] if self.totals else Counter()
        self.totals.append(total + seen.found if seen.found else total)

    def first(self, count: int) -> _Looked:
        """Its first messages, as a list of their own."""
        made = _Looked()
        made.given, made.seen, made.kept = self.given[:count], self.seen[:count], self.kept[:count]
        made.totals = self.totals[:count]
        return made


def _texts(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index))


def _without(value: Any, names: re.Pattern[str]) -> Any:
    """The value without fields of these names."""
    return with_room(lambda: _left(value, names))


def _left(value: Any, names: re.Pattern[str]) -> Any:
    if isinstance(value, dict):
        return {k: _left(v, names) for k, v in value.items() if not (isinstance(v, (list, dict)) and names.search(k))}
    return [_left(v, names) for v in value] if isinstance(value, list) else value


def withheld(error: BaseException) -> Exception:
    """An error that stands for one whose own text may hold what is redacted."""
    return RuntimeError(f"{type(error).__name__}; its text is withheld, as redact= is on")
