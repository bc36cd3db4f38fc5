"""Trajectories as dicts that people and programs write by hand -> records: what may be left out, and where a mistake is.

The shape is that of `Trajectory.to_dict`; the words of `step.llm_call(...)` and the other recording methods work in it, too. A
key
that no part of the shape has is kept in `extra`, unless it looks misspelt: then it is refused. Knows no views and no store.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import groupby
from typing import Any

import msgspec

from . import dialects
from .clock import parse_time
from .codec import new_id, record_from_dict
from .errors import InvalidInput
from .plain import tagged
from .prefix import Prefix
from .types import (
    KINDS,
    SCHEMA_VERSION,
    Action,
    AnyRecord,
    Context,
    Edit,
    Fork,
    Kept,
    Label,
    Literal,
    LLMCall,
    Note,
    Record,
    Reward,
    Span,
    Start,
    StepStart,
    Tokens,
)

_LISTS: dict[str, type[Record]] = {
    "contexts": Context,
    "llm_calls": LLMCall,
    "actions": Action,
    "rewards": Reward,
    "edits": Edit,
    "labels": Label,
    "notes": Note,
}
_STEP_KEYS = {"index", "agent", "observation", "reward", "record", *_LISTS}
_START_FIELDS = set(Start.__struct_fields__) - set(Record.__struct_fields__) | {"agent"}
_WHOLE_KEYS = {
    "id",
    "status",
    "reward",
    "answer",
    "started",
    "duration",
    "start",
    "steps",
    "end",
    "superseded",
    *_LISTS,
    *_START_FIELDS,
}
#: The words of the recording methods that no record has as fields.
_WORDS: dict[str, tuple[str, ...]] = {
    "llm_call": ("messages", "tools", "params", "system_prompt", "user_prompt", "thinking", "token_ids", "logprobs",
                 "policy_versions", "metadata"),
    "action": ("metadata",),
}  # fmt: skip
#: Names that other formats have for a field, by kind of record; "" for every kind.
_OTHERS: dict[str, dict[str, str]] = {
    "": {"timestamp": "source_time"},
    "context": {"providername": "provider"},
    "llm_call": {"prompt": "user_prompt", "completion": "response", "output": "response", "toolcalls": "response"},
    "action": {"success": "ok", "params": "arguments", "parameters": "arguments", "args": "arguments", "action": "name",
               "tool": "name", "toolname": "name", "output": "result"},
    "reward": {"score": "value", "reward": "value"},
}  # fmt: skip
_INNER: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "tokens": (Tokens,),
    "fork": (Fork,),
    "span": (Span,),
    "result": (Kept, Literal),
}


def placed_records(records: list[AnyRecord]) -> list[AnyRecord]:
    """The records with the ids, the trajectory and the parents that hand-made ones leave out."""
    if not records:
        raise InvalidInput("a trajectory has at least one record")
    trajectory = next((r.trajectory for r in records if r.trajectory), "") or new_id()
    root: str | None = None
    steps: dict[tuple[str | None, int | None], str] = {}
    placed: list[AnyRecord] = []
    for record in records:
        if record.trajectory not in ("", trajectory):
            raise InvalidInput(f"records of two trajectories: {trajectory} and {record.trajectory}")
        changes: dict[str, Any] = {}
        if not record.id:
            changes["id"] = new_id()
        if not record.trajectory:
            changes["trajectory"] = trajectory
        if record.parent is None and not isinstance(record, Start):
            parent = root if isinstance(record, StepStart) else steps.get((record.agent, record.step), root)
            if parent is not None:
                changes["parent"] = parent
        if changes:
            record = msgspec.structs.replace(record, **changes)
        if isinstance(record, Start):
            root = record.id
        elif isinstance(record, StepStart):
            steps[(record.agent, record.step)] = record.id
        placed.append(record)
    return placed


def _of_sequence(data: dict[str, Any]) -> dict[str, Any]:
    """A black box as calls: each run of the mask is what one call generated, under all that stands left of it."""
    ids, mask, logprobs = data["token_ids"], data.get("mask"), data.get("logprobs")
    if not isinstance(ids, list) or not isinstance(mask, list) or len(mask) != len(ids):
        raise InvalidInput("token_ids needs a mask of the same length: 1 where the policy generated")
    if logprobs is not None and (not isinstance(logprobs, list) or len(logprobs) != len(ids)):
        raise InvalidInput(f"logprobs: a list of {len(ids)} was expected, one per token id, with null where mask is 0")
    if any(m not in (0, 1) for m in mask) or not mask or mask[0]:
        raise InvalidInput("mask: 0s and 1s were expected, beginning with 0, as a prompt precedes the generated tokens")
    rest = {k: v for k, v in data.items() if k not in ("token_ids", "mask", "logprobs", "reward", "steps")}
    steps: list[dict[str, Any]] = []
    stop = 0
    ids = list(ids)  # the records share it
    is_sound = set(map(type, ids)) == {int}  # a prompt of something else is looked at where it is read
    for generated, run in groupby(mask):
        start, stop = stop, stop + sum(1 for _ in run)
        if not generated:
            continue
        tokens: dict[str, Any] = {"token_ids": ids[start:stop]}
        if logprobs is not None:
            tokens["logprobs"] = logprobs[start:stop]
        call = {
            "model": data.get("model"),
            "prompt_token_ids": Prefix(ids, start) if is_sound else ids[:start],
            "tokens": [tokens],
        }
        steps.append({"llm_calls": [{k: v for k, v in call.items() if v is not None}]})
    return {**rest, "reward": data.get("reward"), "steps": steps}


def request_in_parts(
    model: str | None, messages: Any, tools: Any, params: dict[str, Any] | None, system_prompt: Any, user_prompt: Any
) -> dict[str, Any]:
    """A request that is given in parts. The prompts stand around the messages, where both are given."""
    made: dict[str, Any] = {} if model is None else {"model": model}
    if system_prompt is not None or user_prompt is not None:
        first = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
        last = [] if user_prompt is None else [{"role": "user", "content": user_prompt}]
        between = messages if issubclass(type(messages), list) else [] if messages is None else [messages]
        messages = [*first, *between, *last]
    if messages is not None:
        made["messages"] = messages
    if tools is not None:
        made["tools"] = tools
    if params:
        made.update(params)
    return made


def _known_keys(given: dict[str, Any], known: set[str], kind: str, where: str) -> dict[str, Any]:
    """What of an object has no place. Raises InvalidInput for a key that looks misspelt, or like another format's."""
    unknown = {k: v for k, v in given.items() if k not in known}
    for key in unknown:
        meant = _meant(key, known, kind) if isinstance(key, str) else None
        if meant is not None:
            raise InvalidInput(f"{where}{': ' if where else ''}no field {key[:60]!r}; did you mean {meant!r}?")
    return unknown


def _meant(key: str, known: set[str], kind: str) -> str | None:
    from difflib import get_close_matches  # a mistake may take its time, an import may not

    plain = key.replace("_", "").replace("-", "").lower()
    other = {**_OTHERS[""], **_OTHERS.get(kind, {})}.get(plain)
    if other is not None and (other in known or kind):
        return other
    names = {name.replace("_", "").lower(): name for name in sorted(known)}
    if plain in names:
        return names[plain]
    names = {other: name for other, name in _OTHERS.get(kind, {}).items() if name in known} | names
    near = get_close_matches(plain, list(names), 1, 0.75) if len(plain) > 3 else []
    return names[near[0]] if near else None


def _whole_inside(fields: dict[str, Any], kind: str) -> None:
    """Refuses keys inside of a record's own objects that no field would hold. Raises InvalidInput."""
    for name, kinds in _INNER.items():
        value = fields.get(name)
        if value is None or (name == "result" and kind != "edit"):
            continue
        known = {"run", *(f for k in kinds for f in k.__struct_fields__)}
        for number, one in enumerate(value if isinstance(value, list) else [value]):
            for key in one if isinstance(one, dict) else ():
                if key not in known:
                    place = f"{name}[{number}]" if isinstance(value, list) else name
                    raise InvalidInput(f"{place} has no field {key!r:.60}; there are: {', '.join(sorted(known - {'run'}))}")


def _finite(fields: dict[str, Any], kind: str) -> None:
    """Numbers that are none as a store keeps them. Raises InvalidInput for a weight that is none."""
    weight = fields.get("weight")
    if kind == "reward" and isinstance(weight, float) and not math.isfinite(weight):
        raise InvalidInput(f"weight is a finite number, not {weight}")
    name = {"reward": "value", "label": "score"}.get(kind)
    value = fields.get(name) if name is not None else None
    if name is not None and isinstance(value, float) and not math.isfinite(value):
        fields[name] = tagged("float", str(value))


def _of_words(fields: dict[str, Any], kind: str) -> dict[str, Any]:
    """The fields of a record whose words are those of the method that records it. Raises InvalidInput."""
    words = {name: fields.pop(name) for name in _WORDS.get(kind, ()) if name in fields}
    more = words.pop("metadata", None)
    if more is not None:
        if not isinstance(more, dict):
            raise InvalidInput(f"metadata is an object, not {type(more).__name__}")
        fields["extra"] = {**(fields.get("extra") or {}), **more}
    if "thinking" in words:
        thinking = words.pop("thinking")
        if fields.get("reasoning") is None:
            fields["reasoning"] = thinking
    ids, logprobs, versions = (words.pop(n, None) for n in ("token_ids", "logprobs", "policy_versions"))
    if ids is not None or logprobs is not None:
        if fields.get("tokens"):
            raise InvalidInput("give the ids of answers as tokens, or as token_ids and logprobs, not both")
        fields["tokens"] = _tokens(ids, logprobs)
    if versions is not None:
        if not fields.get("tokens"):
            raise InvalidInput("policy_versions need the token_ids that they count")
        fields["tokens"] = [{**fields["tokens"][0], "versions": versions}, *fields["tokens"][1:]]
    parts = {name: value for name, value in words.items() if value is not None}
    if parts:
        if fields.get("request") is not None:
            raise InvalidInput(f"give the request whole (request) or in parts ({', '.join(parts)}), not both")
        for name, wanted in (("messages", list), ("tools", list), ("params", dict)):
            if name in parts and not isinstance(parts[name], wanted):
                expected = "a list" if wanted is list else "an object"
                raise InvalidInput(f"{name} is {expected}, not {type(parts[name]).__name__}")
        given = (parts.get(n) for n in ("messages", "tools", "params", "system_prompt", "user_prompt"))
        fields["request"] = request_in_parts(fields.get("model"), *given)
    return fields


def _tokens(ids: Any, logprobs: Any) -> list[dict[str, Any]]:
    """Ids and logprobs of the one answer, or a list of lists: one of each answer."""
    several = any(isinstance(x, list) and x and isinstance(x[0], list) for x in (ids, logprobs))
    if not several:
        ids, logprobs = ([x] if x is not None else None for x in (ids, logprobs))
    given = {k: v for k, v in (("token_ids", ids), ("logprobs", logprobs)) if isinstance(v, list)}
    count = max((len(v) for v in given.values()), default=0)
    return [{k: v[n] for k, v in given.items() if n < len(v) and v[n] is not None} for n in range(count)]


def _counted(fields: dict[str, Any]) -> None:
    """Adds the counts of tokens that the usage, or the answer, of a call by hand states, and the model that its request names."""
    request, response = fields.get("request"), fields.get("response")
    if fields.get("model") is None and isinstance(request, dict) and isinstance(request.get("model"), str):
        fields["model"] = request["model"]
    dialect = dialects.of_response(response, fields["dialect"] if isinstance(fields.get("dialect"), str) else None)
    usage = fields["usage"] if isinstance(fields.get("usage"), dict) else dialect.stated(response)
    if isinstance(usage, dict):
        counts = dialect.usage(usage)
        for name, count in (("prompt_tokens", counts.prompt), ("completion_tokens", counts.completion)):
            if count is not None and fields.get(name) is None:
                fields[name] = count


def records_from_dict(data: Any) -> list[AnyRecord]:
    """The records of a trajectory given as a dict: the shape of `to_dict`, of which a hand-made one may leave out all
    that it does not know (ids, times, `record`s): `{"task", "steps": [{"observation", "llm_calls", ...}], "rewards", ...}`.
    `"reward": 0.5`, of the whole or of a step, stands for a reward record where there is none. A black box may give all its
    tokens at
    once: `{"task", "token_ids", "mask", "logprobs", "reward"}`.

    Raises InvalidInput with the path of what can't be read.
    """
    if not isinstance(data, dict):
        raise InvalidInput(f"a trajectory is an object, not {type(data).__name__}")
    if "token_ids" in data:
        data = _of_sequence(data)
    version = data.get("schema_version", SCHEMA_VERSION)
    if type(version) is not int or version < 1:
        raise InvalidInput(f"schema_version is a whole number from 1, not {version!r}")
    out: list[AnyRecord] = []

    def add(kind: str, raw: Any, where: str, **defaults: Any) -> None:
        if not isinstance(raw, dict):
            raise InvalidInput(f"{where}: an object was expected, found {type(raw).__name__}")
        if raw.get("kind", kind) != kind:
            raise InvalidInput(f"{where}: a record of kind {kind!r} was expected, found {raw['kind']!r:.60}")
        fields = {**defaults, **raw, "kind": kind}
        if kind in KINDS:
            _known_keys(raw, {"kind", *KINDS[kind].__struct_fields__, *_WORDS.get(kind, ())}, kind, where)
        growing = fields.pop("prompt_token_ids") if type(fields.get("prompt_token_ids")) is Prefix else None
        try:
            fields = _of_words(fields, kind)
            _whole_inside(fields, kind)
            _finite(fields, kind)
            if kind == "llm_call" and "id" not in raw:
                _counted(fields)
            record = record_from_dict(fields, version)
            out.append(record if growing is None else msgspec.structs.replace(record, prompt_token_ids=growing))
        except InvalidInput as error:
            raise InvalidInput(f"{where}: {error}") from None

    def add_lists(part: dict[str, Any], where: str, **defaults: Any) -> None:
        for name, kind in _LISTS.items():
            found = part.get(name) or []
            if not isinstance(found, list):
                raise InvalidInput(f"{where}{name}: a list was expected, found {type(found).__name__}")
            for index, raw in enumerate(found):
                add(str(kind.__struct_config__.tag), raw, f"{where}{name}[{index}]", **defaults)
        if part.get("rewards") is None and part.get("reward") is not None:
            add("reward", {"value": part["reward"]}, f"{where}reward", **defaults)

    unknown = _known_keys(data, _WHOLE_KEYS, "", "")
    start = data.get("start")
    by_hand = isinstance(start, dict) and "id" not in start  # what stands beside it is not read from it
    if by_hand or (start is None and (data.get("id") is None or any(k in data for k in _START_FIELDS))):
        stated = {k: v for k, v in data.items() if k in _START_FIELDS and v is not None}
        stated.pop("schema_version", None)
        if data.get("started") is not None:
            stated["source_time"] = parse_time(data["started"])
            if stated["source_time"] is None:
                raise InvalidInput(f"started: {data['started']!r:.60} is no time; an ISO 8601 string was expected")
        start = {**stated, **(start if isinstance(start, dict) else {})}
    if unknown:
        if not isinstance(start, dict):
            raise InvalidInput(
                f"no field {next(iter(unknown))!r:.60} where there is no start; there are: {', '.join(sorted(_WHOLE_KEYS))}"
            )
        start = {**start, "extra": {**(start.get("extra") or {}), **unknown}}
    if start is not None:
        add("start", start, "start")
    steps = data.get("steps") or []
    if not isinstance(steps, list):
        raise InvalidInput(f"steps: a list was expected, found {type(steps).__name__}")
    counts: Counter[Any] = Counter()  # an index is per agent
    for position, step in enumerate(steps):
        where = f"steps[{position}]"
        if not isinstance(step, dict):
            raise InvalidInput(f"{where}: an object was expected, found {type(step).__name__}")
        agent = {} if step.get("agent") in (None, data.get("agent")) else {"agent": step["agent"]}
        whose = agent.get("agent") if isinstance(agent.get("agent"), str) else None
        index = step.get("index", counts[whose])
        counts[whose] = index + 1 if type(index) is int else counts[whose] + 1
        if step.get("record") is not None:
            add("step", step["record"], f"{where}.record")
        elif "record" not in step:
            more = {k: v for k, v in step.items() if k not in _STEP_KEYS}
            _known_keys(more, _STEP_KEYS | {*StepStart.__struct_fields__} - {"step"}, "step", where)
            add("step", {"observation": step.get("observation"), **more}, where, step=index, **agent)
        add_lists(step, f"{where}.", step=index, **agent)
    rewarded = any(isinstance(r, Reward) for r in out)
    add_lists({**data, "reward": None} if rewarded else data, "")
    for index, raw in enumerate(data.get("superseded") or []):
        add(str(raw.get("kind")) if isinstance(raw, dict) else "", raw, f"superseded[{index}]")
    end = data.get("end")
    if end is None and start is not None and "end" not in data and data.get("status") not in ("running", "unterminated"):
        end = {k: v for k in ("status", "answer") if (v := data.get(k)) is not None}
    if end is not None:
        add("end", end, "end")
    if not out:
        raise InvalidInput("a trajectory has a start, steps or records; this object has none")
    id, whose = data.get("id"), next((r.trajectory for r in out if r.trajectory), None)
    if isinstance(id, str) and whose is not None and id != whose:  # it would correct that one
        raise InvalidInput(f"id: {id[:100]!r}, but the records in it are of trajectory {whose!r}; a copy has no ids inside")
    return out
