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


class Finding(msgspec.Struct, frozen=True):
    """What a judge says of one part of a session: of the turn, or the step, with this number."""

    place: int
    quote: str
    value: str = ""
    score: float | None = None
    rationale: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """A judge's verdict. `score` None: it gave none, and said so. `evidence`: (turn, quote). `findings`: where parts of a session
    are labelled."""

    value: str = ""
    score: float | None = None
    rationale: str = ""
    evidence: tuple[tuple[int, str], ...] = ()
    findings: tuple[Finding, ...] = ()


def read_verdict(text: str, *, scored: bool = True) -> Verdict:
    """The verdict in an answer: a JSON object, or lines such as `**SCORE:** 0.9`, with prose around them or not.

    `scored`: whether an answer without a score is no answer.
    Raises InvalidInput with what is wrong: no verdict, none that is whole, two that differ, a score that is no number.
    """
    text = _THOUGHT.sub("", text).rpartition("</think>")[2]
    found: list[Verdict] = []
    for value in values(text):
        if isinstance(value, dict):
            fields = {str(k).lower(): v for k, v in value.items()}
            if "value" in fields or "score" in fields:
                one = _verdict(fields, scored)
                if one not in found:
                    found.append(one)
    if not found:
        fields = _lines(text)
        if not fields:
            raise InvalidInput("no verdict was found: neither a JSON object with value and score nor lines VALUE: and SCORE:")
        found.append(_verdict(fields, scored))
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


def listed_findings(text: str, key: str, scored: bool) -> list[Finding]:
    """The findings in an answer, `{"findings": [...]}` or a bare list. `key`: turn or step. Raises InvalidInput, also where one
    finding is not whole."""
    text = _THOUGHT.sub("", text).rpartition("</think>")[2]
    found: list[list[Finding]] = []
    for value in values(text):
        given = value.get("findings") if isinstance(value, dict) else value or None
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            continue
        listed = [_finding({str(k).lower(): v for k, v in one.items()}, key, scored) for one in given]
        if listed not in found:
            found.append(listed)
    if not found:
        raise InvalidInput('no list of findings was found; {"findings": []} says that there is none')
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} lists of findings that differ were found, where one was expected")
    return found[0]


def _finding(fields: dict[str, Any], key: str, scored: bool) -> Finding:
    one, place, quote = _verdict(fields, scored), fields.get(key), fields.get("quote")
    if isinstance(place, str) and place.strip().isdecimal():
        place = int(place)
    if type(place) is not int:
        raise InvalidInput(f"a finding names its {key}, a number; found {place!r:.40}")
    return Finding(place, quote if isinstance(quote, str) else "", one.value, one.score, one.rationale)


def _verdict(fields: dict[str, Any], scored: bool) -> Verdict:
    missing = [name for name in ("value", "score") if name not in fields and (scored or name != "score")]
    if missing:
        raise InvalidInput(f"the answer has no {missing[0]}")
    value, rationale = fields["value"], fields.get("rationale")
    if value is None:
        value = ""
    elif not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False)
    score = _score(fields.get("score")) if scored else None
    return Verdict(value.strip(), score, rationale if isinstance(rationale, str) else "", _cited(fields.get("evidence")))


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


def supported_findings(
    findings: Sequence[Finding], texts: Sequence[str], steps: Sequence[int | None] | None
) -> tuple[list[dict[str, Any]], int]:
    """The findings whose quotes occur in the turn that they name, and how many do not. `steps`: the step of each turn, where
    findings name steps; the quote then occurs in a turn of the step."""
    kept = []
    for one in findings:
        if steps is None:
            turns = [one.place] if 1 <= one.place <= len(texts) else []
        else:
            turns = [n for n, step in enumerate(steps, 1) if step == one.place]
        turn = next((n for n in turns if one.quote.strip() and _plain(one.quote) in _plain(texts[n - 1])), None)
        if turn is not None:
            place = {} if steps is None else {"step": one.place}
            kept.append({"turn": turn, **place, "quote": one.quote, "value": one.value, "score": one.score,
                         "rationale": one.rationale})  # fmt: skip
    return kept, len(findings) - len(kept)


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
    findings = {(f.place, f.quote, f.value): f for v in verdicts for f in v.findings}
    return Verdict(value, score, (near or verdicts)[0].rationale, evidence, tuple(findings.values()))


def disagreement(verdicts: Sequence[Verdict]) -> float:
    """From 0 (all the same) to 1: the larger of the share of verdicts off the majority and the range of scores."""
    if len(verdicts) < 2:
        return 0.0
    scores = _scores(verdicts)
    off = 1.0 - Counter(v.value for v in verdicts).most_common(1)[0][1] / len(verdicts)
    return max(off, min(1.0, max(scores) - min(scores)) if scores else 0.0)
