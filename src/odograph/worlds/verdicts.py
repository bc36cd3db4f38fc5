"""What a judge wrote -> a verdict; several verdicts -> one. Lenient with form, strict with content; knows no world."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ..asking.parsing import values
from ..errors import InvalidInput

_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.S)
_LINE = re.compile(r"^[\s>*_#`-]*(value|score|rationale)[\s*_`]*[:=][ \t*_`]*(.*)$", re.I | re.M)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?(\s*/\s*1(\.0+)?)?")
_NONE = ("", "null", "none", "n/a")


class Verdict(msgspec.Struct, frozen=True):
    """A judge's verdict. `score` None: it gave none, and said so. `evidence`: (turn, quote)."""

    value: str = ""
    score: float | None = None
    rationale: str = ""
    evidence: tuple[tuple[int, str], ...] = ()


def schema(evidence: bool) -> dict[str, Any]:
    """The JSON schema of an answer, for endpoints that hold models to one."""
    cited = {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"turn": {"type": "integer"}, "quote": {"type": "string"}},
            "required": ["turn", "quote"],
            "additionalProperties": False,
        },
    }
    properties: dict[str, Any] = {"rationale": {"type": "string"}}
    if evidence:
        properties["evidence"] = cited
    properties |= {"value": {"type": "string"}, "score": {"type": "number", "description": "From 0 to 1."}}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def read_verdict(text: str) -> Verdict:
    """The verdict in an answer: a JSON object, or lines such as `**SCORE:** 0.9`, with prose around them or not.

    Raises InvalidInput with what is wrong: no verdict, none that is whole, two that differ, a score that is no number.
    """
    text = _THOUGHT.sub("", text).rpartition("</think>")[2]
    found: list[Verdict] = []
    for value in values(text):
        if isinstance(value, dict):
            fields = {str(k).lower(): v for k, v in value.items()}
            if "value" in fields or "score" in fields:
                one = _verdict(fields)
                if one not in found:
                    found.append(one)
    if not found:
        fields = _lines(text)
        if not fields:
            raise InvalidInput("no verdict was found: neither a JSON object with value and score nor lines VALUE: and SCORE:")
        found.append(_verdict(fields))
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} verdicts that differ were found, where one was expected")
    return found[0]


def _lines(text: str) -> dict[str, Any]:
    """The fields that an answer gives as lines; a rationale goes on until the next field."""
    marks = list(_LINE.finditer(text))
    fields: dict[str, Any] = {}
    for mark, after in zip(marks, [*marks[1:], None], strict=False):
        name, said = mark[1].lower(), mark[2]
        if name == "rationale":
            said += text[mark.end() : after.start() if after else len(text)]
        said = said.strip().strip("*_`").strip()
        if fields.setdefault(name, said) != said:
            raise InvalidInput(f"{name.upper()} is given twice")
    return fields


def _verdict(fields: dict[str, Any]) -> Verdict:
    missing = [name for name in ("value", "score") if name not in fields]
    if missing:
        raise InvalidInput(f"the answer has no {missing[0]}")
    value, rationale = fields["value"], fields.get("rationale")
    if value is None:
        value = ""
    elif not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False)
    return Verdict(
        value.strip(), _score(fields["score"]), rationale if isinstance(rationale, str) else "", _cited(fields.get("evidence"))
    )


def _score(given: Any) -> float | None:
    if given is None or (isinstance(given, str) and given.strip().lower() in _NONE):
        return None
    if isinstance(given, str) and _NUMBER.fullmatch(given.strip()):
        given = float(given.partition("/")[0])
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise InvalidInput(f"the score is {given!r:.40}, no number")
    return float(given)


def _cited(given: Any) -> tuple[tuple[int, str], ...]:
    found = []
    for one in given if isinstance(given, list) else []:
        turn, quote = (one.get("turn"), one.get("quote")) if isinstance(one, dict) else (None, None)
        if isinstance(turn, (int, str)) and isinstance(quote, str) and quote.strip():
            try:
                found.append((int(turn), quote))
            except ValueError:
                found.append((0, quote))  # which no turn is: it will be dropped, and counted
    return tuple(found)


def supported(evidence: Sequence[tuple[int, str]], texts: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    """The quotes that do occur in the turns that they name, and how many do not. Spaces and escapes don't count."""
    kept = []
    for turn, quote in evidence:
        if 1 <= turn <= len(texts) and _plain(quote) in _plain(texts[turn - 1]):
            kept.append({"turn": turn, "quote": quote})
    return kept, len(evidence) - len(kept)


def _plain(text: str) -> str:
    return " ".join(text.replace("\\u003c", "<").replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"').split())


# --- several verdicts -> one ----------------------------------------------------------------------------------------------


def _majority(verdicts: Sequence[Verdict]) -> str:
    """The value that most gave; of those that tie, the first."""
    return Counter(v.value for v in verdicts).most_common(1)[0][0]


def _scores(verdicts: Sequence[Verdict]) -> list[float]:
    return [v.score for v in verdicts if v.score is not None]


def _mean(scores: list[float]) -> float:
    return math.fsum(scores) / len(scores)


def _with_score(pick: Callable[[list[float]], float]) -> Callable[[Sequence[Verdict]], tuple[str, float | None]]:
    def reduce(verdicts: Sequence[Verdict]) -> tuple[str, float | None]:
        scores = _scores(verdicts)
        if not scores:
            return _majority(verdicts), None
        best = pick(scores)
        return next(v.value for v in verdicts if v.score == best), best

    return reduce


def _by_majority(verdicts: Sequence[Verdict]) -> tuple[str, float | None]:
    scores = _scores(verdicts)
    return _majority(verdicts), _mean(scores) if scores else None


def _union(verdicts: Sequence[Verdict]) -> tuple[str, float | None]:
    scores = _scores(verdicts)
    parts = dict.fromkeys(part.strip() for v in verdicts for part in v.value.split(",") if part.strip())
    return ", ".join(parts), max(scores) if scores else None


#: How the verdicts on the segments of a long session become one: value and score. `majority`: the value that most segments have
#: and the mean score; `any`: those of the highest score (it happened somewhere); `all`: those of the lowest (it held
#: throughout); `union`: all values that are given, by commas, and the highest score.
REDUCERS: dict[str, Callable[[Sequence[Verdict]], tuple[str, float | None]]] = {
    "majority": _by_majority,
    "any": _with_score(max),
    "all": _with_score(min),
    "union": _union,
}


def reduced(verdicts: Sequence[Verdict], reducer: str) -> Verdict:
    """One verdict of several, with the rationale of one that has its value and the evidence of all."""
    if len(verdicts) == 1:
        return verdicts[0]
    value, score = REDUCERS[reducer](verdicts)
    near = sorted((v for v in verdicts if v.value == value), key=lambda v: abs((v.score or 0.0) - (score or 0.0)))
    evidence = tuple(dict.fromkeys(e for v in verdicts for e in v.evidence))
    return Verdict(value, score, (near or verdicts)[0].rationale, evidence)


def disagreement(verdicts: Sequence[Verdict]) -> float:
    """From 0 (all the same) to 1: the larger of the share of verdicts off the majority and the range of scores."""
    if len(verdicts) < 2:
        return 0.0
    scores = _scores(verdicts)
    off = 1.0 - Counter(v.value for v in verdicts).most_common(1)[0][1] / len(verdicts)
    return max(off, min(1.0, max(scores) - min(scores)) if scores else 0.0)
