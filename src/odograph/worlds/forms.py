"""What an answer about a session may be: which values, which scores, about which part. Form -> words, JSON schema, reader.

Knows no judge and no rubric file: people and models answer in the same form.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Literal, get_args

import msgspec

from ..errors import InvalidInput, did_you_mean
from .verdicts import Finding, Verdict, listed_findings, read_verdict

#: What a label is about. A trajectory has one verdict. Of the other parts the judge lists those that the rubric applies to.
On = Literal["trajectory", "step", "turn", "span"]
PARTS: tuple[str, ...] = get_args(On)
_ABOUT = {
    "step": "the number of a step, as a turn's `step` states it",
    "turn": "the number of a turn",
    "span": "the number of a turn, and as the quote the exact words in the turn that the label is about",
}


class Form(msgspec.Struct, frozen=True, omit_defaults=True):
    """The form of an answer. The default is a free value, and a score from 0 to 1.

    `values`: the allowed values; empty: any text. `scores`: the score of each value, where the value says it all. `low`, `high`:
    the range in which a score is given; a label's score is that share of the range, from 0 to 1. `scored`: whether a score is
    asked for. `on`: what is labelled.
    """

    values: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 1.0
    scored: bool = True
    on: On = "trajectory"

    @property
    def json(self) -> str:
        """The form as a column of a label keeps it; the default form is an empty text."""
        return "" if self == FREE else msgspec.json.encode(self).decode()

    @property
    def is_bounded(self) -> bool:
        """Whether a score outside of the range is no answer. Scores of the free form are clamped later."""
        return (self.low, self.high) != (0.0, 1.0) or bool(self.values)

    def sentences(self) -> str:
        """The form in words that belong to the rubric: what a person and a judge may answer."""
        parts = []
        if self.scores:
            each = [f"{v} ({score:g})" for v, score in zip(self.values, self.scores, strict=True)]
            parts.append(f"The value, with its score, is one of: {', '.join(each)}.")
        elif self.values:
            parts.append(f"The value is one of: {', '.join(self.values)}.")
        if self.asks_score and self.is_bounded:
            parts.append(f"The score is a number from {self.low:g} to {self.high:g}.")
        if self.on != "trajectory":
            parts.append(f"Label each {self.on} that this applies to, and no other.")
        return " ".join(parts)

    @property
    def asks_score(self) -> bool:
        """Whether a score is given beside the value."""
        return self.scored and not self.scores

    def instructions(self, evidence: bool) -> str:
        """What a judge is told of the form of its answer."""
        value = f'"{self.values[0]}"' if self.values else '"the technique\'s verdict, in a word or a short phrase"'
        fields = [f'"value": {value}']
        if self.asks_score:
            fields.append(f'"score": {(self.low + self.high) / 2:g}')
        said = ""
        if self.values:
            said += f" The value is one of: {', '.join(self.values)}."
        if self.asks_score:
            said += f" The score is a number from {self.low:g} to {self.high:g}."
        if self.on != "trajectory":
            key = "step" if self.on == "step" else "turn"
            one = ", ".join([f'"{key}": 3', _QUOTE, '"rationale": "why, in a sentence"', *fields])
            return (
                f'Answer with one JSON object and nothing else: {{"findings": [{{{one}}}]}}. A finding names {_ABOUT[self.on]}. '
                f"The quote is copied exactly from there. List nothing that you can't quote; an empty list is an answer.{said}"
            )
        cited = f'"evidence": [{{"turn": 3, {_QUOTE}}}], ' if evidence else ""
        return (
            'Answer with one JSON object and nothing else: {"rationale": "why, in a sentence or two", '
            f"{cited}{', '.join(fields)}}}.{said}"
        )

    def schema(self, evidence: bool) -> dict[str, Any]:
        """The JSON schema of an answer, for endpoints that hold models to one."""
        value: dict[str, Any] = {"type": "string"}
        if self.values:
            value["enum"] = list(self.values)
        judged: dict[str, Any] = {"value": value}
        if self.asks_score:
            judged["score"] = {"type": "number", "description": f"From {self.low:g} to {self.high:g}."}
        quoted = {"turn": {"type": "integer"}, "quote": {"type": "string"}}
        if self.on != "trajectory":
            place = {"step" if self.on == "step" else "turn": {"type": "integer"}, "quote": {"type": "string"}}
            return _object({"findings": _list({**place, "rationale": {"type": "string"}, **judged})})
        properties: dict[str, Any] = {"rationale": {"type": "string"}}
        if evidence:
            properties["evidence"] = _list(quoted)
        return _object(properties | judged)

    def read(self, text: str) -> Verdict:
        """The verdict in an answer. Raises InvalidInput with what is wrong."""
        if self.on != "trajectory":
            found = [self._fitted(f) for f in listed_findings(text, "step" if self.on == "step" else "turn", self.asks_score)]
            scores = [f.score for f in found if f.score is not None]
            mean = math.fsum(scores) / len(scores) if scores else None
            return Verdict(str(len(found)), mean, findings=tuple(found))
        one = read_verdict(text, scored=self.asks_score)
        value, score = self.fitted(one.value, one.score)
        return msgspec.structs.replace(one, value=value, score=score)

    def _fitted(self, one: Finding) -> Finding:
        value, score = self.fitted(one.value, one.score)
        return msgspec.structs.replace(one, value=value, score=score)

    def fitted(self, value: str, score: float | None) -> tuple[str, float | None]:
        """A value and a score as a label keeps them: the value as the form writes it, the score as a share of the range.

        Raises InvalidInput for a value that is not allowed, and for a score outside of a range that was declared.
        """
        if self.values:
            found = next((v for v in self.values if v == value), None)
            found = found or next((v for v in self.values if v.casefold() == value.strip(" .\"'").casefold()), None)
            if found is None:
                there = ", ".join(self.values)
                raise InvalidInput(f"the value is {value!r:.60}; it is one of: {there}{did_you_mean(value, self.values)}")
            value = found
            if self.scores:
                score = self.scores[self.values.index(found)]
                return value, score
        if not self.scored:
            return value, None
        if score is None:
            return value, None
        if not math.isfinite(score):
            raise InvalidInput(f"the score is {score!r}, no number")
        if self.is_bounded and not self.low <= score <= self.high:
            raise InvalidInput(f"the score is {score:g}; it is a number from {self.low:g} to {self.high:g}")
        return value, (score - self.low) / (self.high - self.low)


_QUOTE = '"quote": "words of that turn, copied exactly"'


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _list(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": _object(properties)}


#: What a label without a rubric file is asked for.
FREE = Form()


@cache
def form_of(text: str) -> Form:
    """The form that a label's column keeps. Raises InvalidInput."""
    if not text:
        return FREE
    try:
        return msgspec.json.decode(text, type=Form)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"form_json of a label holds no form: {error}") from None
