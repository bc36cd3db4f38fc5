"""OpenAI's fine-tuning rows: `messages` and `tools`, a row per conversation; `weight` 0 on what is not to be trained.

Source: https://platform.openai.com/docs/guides/supervised-fine-tuning and the API reference's `FineTuneChatRequestInput`.
A call whose prompt is the conversation so far, its answer and something more continues that conversation; any other call
begins a row. Each answer is trained in the row of its own call and in no other; an assistant message that came with a
prompt has weight 0. The format has no place for reasoning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ... import dialects
from ...calls import Call
from ...codec import loads
from ...dialects import Choice
from ...dialects.content import as_json, chat_part, chat_shaped, is_media, is_part, words_of
from ...errors import InvalidInput
from ...prefix import Prefix, shared_prefix
from ...trajectory import Trajectory
from ..views import NO_TEXT, policy_calls, told, unsaid
from . import LeftOut

NAME = "openai"
FILES = ("jsonl",)

_Message = dict[str, Any]
_Items = list[Any] | Prefix
_SYSTEM = ("system", "instructions")  # where dialects other than chat have their system prompt
_FUNCTION = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_EMPTY = "an answer without text or tool call"
_NOT_TAKEN = "a choice that was not continued"


def rows(trajectory: Trajectory, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    """The trajectory's conversations, each agent's own."""
    current: dict[str | None, _Conversation] = {}
    for call in policy_calls(trajectory, left_out):
        agent = call.agent or trajectory.agent
        conversation = current.get(agent)
        if conversation is not None and conversation.goes_on(call):
            continue
        if _continues(call) is not None or not any(_parts(call)[1]):
            left_out("a call whose prompt is not known")
            continue
        if conversation is not None:
            yield from conversation.row(left_out)
        current[agent] = _Conversation(call)
    for conversation in current.values():
        yield from conversation.row(left_out)


class _Conversation:
    """The calls of which each prompt extends the one before and its answer. Costs per call what is new in it."""

    def __init__(self, call: Call) -> None:
        #: In the format's own shape.
        self.dropped: list[str] = []
        #: The transcripts of spoken answers, by the ids under which agents send them back.
        self.spoken: dict[str, str] = {}
        self.messages = _shaped(call.messages, self.dropped)
        #: Positions of the answers in `messages`.
        self.trained: list[int] = []
        self.tools: list[Any] = []
        self._answered(call)

    def _answered(self, call: Call) -> None:
        self._head, self._sent = _parts(call)
        self._dialect = call.dialect
        self._id = call.answered.response.get("id") if isinstance(call.answered.response, dict) else None
        self._choices: list[Choice] = call.choices
        self.spoken |= {
            audio["id"]: c.text
            for c in call.choices
            if isinstance((audio := c.message.get("audio")), dict) and isinstance(audio.get("id"), str)
        }
        self._end = len(self.messages)
        self.tools = call.tools or self.tools
        self._choose(0)

    def _choose(self, index: int) -> None:
        """Puts an answer at the end of the conversation: the first, until the next prompt says that another was taken."""
        del self.messages[self._end :]
        choice = self._choices[index]
        answer = [] if unsaid(choice) else _shaped([_answer(choice)], self.dropped)
        if self.trained and self.trained[-1] == self._end:
            self.trained.pop()
        if answer:
            self.trained.append(self._end)
            self.messages += answer[-1:]

    def goes_on(self, call: Call) -> bool:
        """Takes the call in, if its prompt is this conversation and more."""
        head, sent = _parts(call)
        before = _continues(call)
        if before is not None:
            if before != self._id:
                return False
            self._go_on(call, 0, sent, 0)
            return True
        if call.dialect != self._dialect or head != self._head or not self._begins(sent, call):
            return False
        new = [self._heard(m) for m in sent[len(self._sent) :]]
        shaped = _shaped(dialects.get(call.dialect).messages(_request(call, new)))
        length, index = max((_answer_length(shaped, choice), -index) for index, choice in enumerate(self._choices))
        if length >= 0:
            self._go_on(call, -index, new, length)
        return length >= 0

    def _heard(self, message: Any) -> Any:
        """A message with the words of the spoken answer that it names."""
        audio = message.get("audio") if isinstance(message, dict) else None
        words = self.spoken.get(str(audio.get("id"))) if isinstance(audio, dict) else None
        return message if words is None else {**message, "content": words}

    def _go_on(self, call: Call, choice: int, new: _Items, length: int) -> None:
        """The answer that was taken, then what is new after the `length` messages that repeat it, then the next answer."""
        if choice:
            self._choose(choice)
        self.dropped += [_NOT_TAKEN] * (len(self._choices) - 1)
        self.messages += _shaped(dialects.get(call.dialect).messages(_request(call, new[:])), self.dropped)[length:]
        self._answered(call)

    def _begins(self, sent: _Items, call: Call) -> bool:
        """Whether a prompt begins with the last one; parts that say the same may differ in what the format does not hold."""
        before = self._sent
        if len(sent) < len(before):
            return False
        shape = dialects.get(call.dialect).messages
        for position in range(shared_prefix(before, sent), len(before)):
            if before[position] == sent[position]:
                continue
            was, now = (_shaped(shape(_request(call, [items[position]]))) for items in (before, sent))
            if was != now:
                return False
        return True

    def row(self, left_out: LeftOut) -> Iterator[dict[str, Any]]:
        """The row; what the format can't hold is cut off its end."""
        for reason in self.dropped + [_NOT_TAKEN] * (len(self._choices) - 1):
            left_out(reason)
        _results_first(self.messages)
        stop, why = _sound(self.messages)
        trained = {p for p in self.trained if p < stop}
        for _ in range(len(self.trained) - len(trained)):
            left_out(why)
        if not trained:
            if not self.trained:
                left_out(_EMPTY)
            return
        messages = self.messages[: max(trained) + 1]
        for position, message in enumerate(messages):
            if message["role"] == "assistant" and position not in trained:
                message["weight"] = 0
        tools: list[_Message] = []
        for tool in self.tools:
            found = _tool(tool)
            if found is None:
                left_out("a tool that is no function of an allowed name")
            else:
                tools.append(found)
        yield {"messages": messages, **({"tools": tools} if tools else {})}


def _parts(call: Call) -> tuple[Any, _Items]:
    """What a request says before its messages, and the messages as they were sent."""
    found = call.sending
    request = found if isinstance(found, dict) else {}
    sent = request.get(_list_name(call))
    return [request.get(n) for n in _SYSTEM], sent if isinstance(sent, list | Prefix) else [sent] if sent else []


def _continues(call: Call) -> Any:
    """The id of the response that a request continues without saying it again (the Responses API), or None."""
    request = call.sending
    return request.get("previous_response_id") if isinstance(request, dict) else None


def _list_name(call: Call) -> str:
    found = call.sending
    request = found if isinstance(found, dict) else {}
    lists = dialects.resent(call.dialect).lists
    return next((name for name in lists if name in request), lists[0])


def _request(call: Call, messages: list[Any]) -> dict[str, Any]:
    """A request that says nothing but these messages."""
    return {_list_name(call): messages}


def _answer_length(new: list[_Message], choice: Choice) -> int:
    """How many of the messages are the answer that was sent back, which may come in several parts; -1: they are not."""
    answer = _shaped([_answer(choice)])
    if not answer:
        return 0
    wanted = _said(answer[-1:])
    for length, message in enumerate(new, 1):
        if message["role"] != "assistant":
            break
        if _said(new[:length]) == wanted:
            return length
    return -1


def _answer(choice: Choice) -> _Message:
    """An answer as a message; of a spoken one its transcript."""
    content = choice.message.get("content")
    return {
        **choice.message,
        "role": "assistant",
        "content": choice.text if content is None and "audio" in choice.message else content,
    }


def _said(messages: list[_Message]) -> Any:
    """What assistant messages say together; arguments as values, as agents may write their JSON anew."""
    calls = [c["function"] for m in messages for c in m.get("tool_calls", ())]
    return _value("".join(m.get("content") or "" for m in messages)), [(c["name"], _value(c["arguments"])) for c in calls]


def _value(text: str) -> Any:
    """A text, or what it says where it is JSON: agents write an object anew when they send it back."""
    try:
        return loads(text)
    except InvalidInput:
        return text


def _results_first(messages: list[_Message]) -> None:
    """Puts results before what else stands between their call and the next answer: what a user wrote while a tool ran."""
    start = 0
    for position, message in enumerate(messages):
        if message["role"] == "assistant":
            messages[start:position] = sorted(messages[start:position], key=lambda m: m["role"] != "tool")
            start = position + 1


def _sound(messages: list[_Message]) -> tuple[int, str]:
    """How many of the messages the format takes, and what is wrong with the next. Results have the ids of their calls."""
    waiting: list[str] = []
    asked = 0
    for position, message in enumerate(messages):
        if message["role"] == "tool":
            id = message["tool_call_id"]
            if not id and waiting:
                id = message["tool_call_id"] = waiting[0]
            if id not in waiting:
                return position, "an answer after a tool's result that no call asked for"
            waiting.remove(id)
            continue
        if waiting:
            return asked + 1, "an answer after a tool call without a result"
        calls = message.get("tool_calls", ())
        if any(not _FUNCTION.fullmatch(c["function"]["name"]) for c in calls):
            return position, "an answer with a function name that the format forbids"
        waiting, asked = [c["id"] for c in calls], position
    return (asked + 1 if waiting else len(messages)), "an answer after a tool call without a result"


# --- shapes ---------------------------------------------------------------------------------------------------------


def _shaped(messages: list[_Message], lost: list[str] | None = None) -> list[_Message]:
    """Messages with the fields and parts that the format has, and no other; those that say nothing in it are left out. `lost`
    gets a reason for each part that is no text, where the format has no place for it."""
    out: list[_Message] = []
    lost = [] if lost is None else lost
    for message in chat_shaped(messages):
        role, content = message.get("role"), message.get("content")
        if role == "assistant":
            shaped = _assistant(message, lost)
            if shaped is None:
                continue
        elif role in ("tool", "function"):
            id = message.get("tool_call_id")
            shaped = {"role": "tool", "tool_call_id": id if isinstance(id, str) else "", "content": _text(content, lost)}
        elif role in ("system", "developer"):
            shaped = {"role": "system", "content": _text(content, lost)}
        else:
            parts = [_part(p) for p in content] if isinstance(content, list) and any(map(is_part, content)) else []
            only_text = all(p["type"] == "text" for p in parts)
            shaped = {"role": "user", "content": _text(content, lost) if only_text else parts}
        out.append(shaped)
    return out


def _assistant(message: _Message, lost: list[str]) -> _Message | None:
    content, calls = told(message.get("content")), message.get("tool_calls")
    if content != message.get("content"):
        lost.append(NO_TEXT)
    found = calls if isinstance(calls, list) else []
    if not found and isinstance(message.get("function_call"), dict):
        found = [{"function": message["function_call"]}]
    if content is None and isinstance(message.get("refusal"), str):
        content = message["refusal"]
    if found:
        shaped = [_call(c, i) for i, c in enumerate(found)]
        return {"role": "assistant", "content": _text(content, lost) or None, "tool_calls": shaped}
    text = _text(content, lost)
    if not text.strip() and isinstance(message.get("audio"), dict):  # what was spoken before is named alone
        lost.append(NO_TEXT)
        text = "[audio]"
    return {"role": "assistant", "content": text} if text.strip() else None


def _text(content: Any, lost: list[str]) -> str:
    """A content as text: that of its parts, with a mark where a part is an image, say; any other JSON as it is."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and any(map(is_part, content)):
        lost += [NO_TEXT for p in content if is_media(p)]
        return "".join(p["text"] if p["type"] == "text" else f"[{p['type']}]" for p in map(_part, content))
    return "" if content is None or content == [] else as_json(content)


def _part(part: Any) -> _Message:
    """A part of a content: text, an image, audio or a file, whatever dialect it was in; anything else as the text of its JSON."""
    words = words_of(part)
    if words is not None:
        return {"type": "text", "text": words}
    if is_media(part):
        shaped: _Message = chat_part(part)
        return {k: v for k, v in shaped.items() if k in ("type", shaped["type"])}  # no marks of a cache
    return {"type": "text", "text": as_json(part)}


def _call(call: Any, index: int) -> _Message:
    c: dict[str, Any] = call if isinstance(call, dict) else {}
    found = c.get("function")
    function: dict[str, Any] = found if isinstance(found, dict) else {}
    arguments, id = function.get("arguments"), c.get("id")
    given = arguments if isinstance(arguments, str) else as_json({} if arguments is None else arguments)
    return {
        "id": id if isinstance(id, str) and id else f"call_{index}",
        "type": "function",
        "function": {"name": str(function.get("name") or ""), "arguments": given},
    }


def _tool(tool: Any) -> _Message | None:
    """The schema of a function, from any dialect's; None where it is no function, such as a search that the API itself does."""
    inner = tool.get("function") if isinstance(tool, dict) else None
    t = inner if isinstance(inner, dict) else tool
    if not isinstance(t, dict) or not isinstance(t.get("name"), str) or not _FUNCTION.fullmatch(t["name"]):
        return None
    function: dict[str, Any] = {"name": t["name"]}
    if isinstance(t.get("description"), str):
        function["description"] = t["description"]
    parameters = t.get("parameters", t.get("input_schema"))
    function["parameters"] = parameters if isinstance(parameters, dict) else {"type": "object", "properties": {}}
    if isinstance(t.get("strict"), bool):
        function["strict"] = t["strict"]
    return {"type": "function", "function": function}
