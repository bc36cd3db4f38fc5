"""The agent that trainers call: it looks before it answers, and edits its own answer."""

from __future__ import annotations

from typing import Any

import odograph
from odograph import Agent, Task
from odograph.runtime.template import Template

from .policy import LOOK, answer_of, make_tokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {% for c in m.tool_calls or [] %}{{ c.function.name }} {% endfor %}"
    "{% if m.content %}{{ m.content }} {% endif %}<end> {% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)


def parse(text: str) -> dict[str, Any]:
    """A message of the words that the model wrote."""
    said, asks = answer_of(text.split())
    message: dict[str, Any] = {"role": "assistant", "content": said}
    if asks:
        message["tool_calls"] = [{"type": "function", "function": {"name": LOOK, "arguments": "{}"}}]
    return message


def make_template(kind: type[Template] = Template) -> Template:
    """The tokenizer, and how its ids are messages."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return kind(tokenizer, parse)


def short(answer: Any) -> None:
    """The agent's edit: nothing behind the word that asks for the tool. Where messages are sent, the text is what is behind."""
    why = {"reason": "only the tool is wanted", "author": "looker"}
    if answer.tool_calls and answer.call.dialect == "openai.completions" and len(answer.token_ids) > 2:
        answer.edit().truncate(1, **why)
    elif answer.tool_calls and answer.call.dialect == "openai.chat" and answer.text:
        answer.edit(on="text").rewrite("", **why)


def looks(colour: str, template: Template | None = None) -> Task:
    """The task of a prompt: only a tool knows the colour. With a template, the model is sent token ids; else messages."""

    async def look() -> str:
        """Looks which colour it is."""
        return colour

    dialect = "openai.chat" if template is None else "openai.completions"
    agent = Agent(model="tiny", tools=[look], dialect=dialect, tokenizer=template, max_steps=3, on_answer=short)
    return Task("which colour", agent, metadata={"colour": colour})


def worth(t: odograph.Trajectory) -> float:
    """0.7 for the right colour as the first word of the answer, 0.1 for nothing but it, 0.2 for having looked."""
    words, colour = str(t.answer or "").split(), t.metadata["colour"]
    looked = any(action.name == LOOK for action in t.actions)
    return round(0.2 * looked + 0.7 * (words[:1] == [colour]) + 0.1 * (words == [colour]), 3)
