"""A rubric as a Markdown file: what is judged, in which form, by whom and on which sample. Knows no judge and no store.

    ---
    technique: care
    values: careful = 1, hasty = 0.5, careless = 0
    judge: gpt-5-mini
    sample: 500
    ---
    Did the agent look before it changed something?

    ## Examples
    - careful: It read the file before it changed the line.

The header has a `key: value` a line. A list is separated by commas, or has a line `- item` for each item. The text below the
header goes to the judge, and people who label read the same text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from ..errors import InvalidInput, NotFound, did_you_mean
from ..labels import version_of
from .components import Label
from .forms import PARTS, Form, On
from .settings import LabelingConfig

Strategy = Literal["random", "first", "stratified"]
#: What trajectories can be stratified by.
STRATA = ("agent", "model", "status", "group", "policy_version", "scenario")

_HEADER = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*$\n?(.*)\Z", re.S | re.M)
_KEY = re.compile(r"([A-Za-z][\w-]*)[ \t]*:[ \t]*(.*)")
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?)\s*(?:to|\.\.+|-|–)\s*(-?\d+(?:\.\d+)?)")
#: A value with its score, as `careful = 1` or `careful: 1`; and one that says something else after `=`.
_SCORED = re.compile(r"""("[^"]*"|'[^']*'|[^=]*[^=\s])(?:\s*=\s*|:\s+)([-+]?[\d.]+)""")
_PAIR = re.compile(r"""("[^"]*"|'[^']*'|[^=]*)=?(.*)""")
_EXAMPLES = re.compile(r"^#+[ \t]*Examples?[ \t]*$(.*?)(?=^#|\Z)", re.S | re.M | re.I)
_EXAMPLE = re.compile(r"^[-*][ \t]+([^:\n]+):[ \t]*(\S.*)$", re.M)
_YES, _NO = ("yes", "true", "on"), ("no", "false", "off")

#: The keys of a header, and what each means.
KEYS = {
    "technique": "name of what is judged (default: the file's name)",
    "values": "the allowed values, each with its score where it has one: careful = 1, careless = 0",
    "score": "the range of scores: 0 to 1, 1 to 5",
    "on": "what is labelled: trajectory (default), step, turn or span",
    "evidence": "yes: the judge quotes what a label rests on",
    "judge": "the judging models; several make a majority",
    "base-url": "endpoint of the judge",
    "dialect": "API of the endpoint",
    "temperature": "temperature of the judge",
    "repeats": "how often each judge is asked",
    "max-output-tokens": "longest answer of the judge",
    "context": "the judge's context in tokens",
    "long": "what becomes of a session that is longer: middle, segments, summary or refuse",
    "reducer": "how segments become one label: majority, any, all or union",
    "prices": "prices per million tokens of prompts and of answers: 0.25, 2",
    "sample": "how many trajectories are labelled",
    "seed": "seed of the sample",
    "strategy": "how the sample is drawn: random (default), first or stratified",
    "stratify-by": f"what a stratified sample is balanced by: {', '.join(STRATA)}",
    "where": "filters, as of the command line: status=completed",
}


class Example(msgspec.Struct, frozen=True):
    """An example of a value, as the section "Examples" lists it."""

    value: str
    text: str


class Rubric(msgspec.Struct, frozen=True, kw_only=True):
    """A rubric: `Rubric.read("care.md")`. Judge and sample are no part of its version."""

    technique: str
    #: What the header's text says, for judges and people.
    text: str
    form: Form
    examples: tuple[Example, ...] = ()
    #: Settings of `LabelingConfig` that the header names.
    settings: dict[str, Any] = {}
    judges: tuple[str, ...] = ()
    sample: int | None = None
    seed: int = 0
    strategy: Strategy = "random"
    stratify_by: str = "agent"
    where: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> Rubric:
        """The rubric in a file. Raises NotFound, InvalidInput with the file and what is wrong."""
        place = Path(path).expanduser()
        try:
            text = place.read_text()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
            raise NotFound(f"the rubric {str(path)!r} can't be read: {why}") from None
        try:
            return cls.of(text, place.stem)
        except InvalidInput as error:
            raise InvalidInput(f"the rubric {str(path)!r}: {error}") from None

    @classmethod
    def of(cls, text: str, name: str = "label") -> Rubric:
        """The rubric in a text. `name`: the technique, where the header names none. Raises InvalidInput."""
        found = _HEADER.match(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").lstrip("\n"))
        if found is None:
            raise InvalidInput("a rubric begins with a header: a line '---', lines such as 'values: good, bad', and a line '---'")
        header, body = _header(found[1]), found[2].strip()
        if not body:
            raise InvalidInput("the text below the header is empty; this text tells the judge what to judge")
        form = _form(header)
        examples = tuple(
            Example(v.strip(" *`"), t.strip()) for part in _EXAMPLES.findall(body) for v, t in _EXAMPLE.findall(part)
        )
        for one in examples:
            if form.values and one.value not in form.values:
                raise InvalidInput(f"an example has the value {one.value!r}; the values are: {', '.join(form.values)}")
        settings = _settings(header)
        LabelingConfig(**settings)  # which refuses what no judge can have
        strategy = _one(header, "strategy", "random", ("random", "first", "stratified"))
        return cls(
            technique=_text(header, "technique") or name,
            text=body,
            form=form,
            examples=examples,
            settings=settings,
            judges=tuple(header.get("judge", ())),
            sample=_count(header, "sample", 1),
            seed=_count(header, "seed", 0) or 0,
            strategy=cast(Strategy, strategy),
            stratify_by=_one(header, "stratify-by", "agent", STRATA),
            where=tuple(header.get("where", ())),
        )

    @property
    def description(self) -> str:
        """What a label is described by: the text, and the form of an answer in words."""
        return "\n\n".join(part for part in (self.text, self.form.sentences()) if part)

    @property
    def version(self) -> str:
        """A hash of technique, text and form."""
        return version_of(self.technique, self.description)

    def label(self) -> Label:
        """The component that waits for a verdict by this rubric."""
        return Label(technique=self.technique, description=self.description, form_json=self.form.json)

    def config(self, **more: Any) -> LabelingConfig:
        """Settings of a labelling by this rubric; `more` overrides what the header says. Raises InvalidInput."""
        settings = dict(self.settings)
        if self.judges:
            settings["model"] = self.judges[0]
        return LabelingConfig(**{**settings, **more})


def _header(text: str) -> dict[str, list[str]]:
    """Each key's items. Raises InvalidInput for a line that is none, and an unknown or doubled key."""
    found: dict[str, list[str]] = {}
    last: str | None = None
    for number, line in enumerate(text.splitlines(), 2):
        line = _uncommented(line).rstrip()
        if not line.strip():
            continue
        if last is not None and line.lstrip().startswith("- "):
            found[last].append(_bare(line.lstrip()[2:]))
            continue
        if last == "values" and line[0] in " \t" and _SCORED.fullmatch(line.strip()):
            found[last].append(line.strip())
            continue
        match = _KEY.fullmatch(line.strip())
        if match is None:
            raise InvalidInput(f"line {number} of the header is {line.strip()!r:.60}; a line is 'key: value'")
        last = match[1].lower().replace("_", "-")
        last = "values" if last == "value" else "judge" if last == "judges" else last
        if last not in KEYS:
            raise InvalidInput(f"no key {match[1]!r} in a header; there are: {', '.join(KEYS)}{did_you_mean(last, KEYS)}")
        if last in found:
            raise InvalidInput(f"{last!r} is given twice")
        said = match[2].strip()
        if said[:1] in ("[", "{") and not said.endswith("]" if said[0] == "[" else "}"):
            raise InvalidInput(f"line {number} of the header has {said!r:.60}; the list that {said[0]!r} begins has no end")
        whole = said[1:-1] if said[:1] + said[-1:] in ("[]", "{}") else said
        single = last in ("technique", "base-url")
        if said[:1] in tuple("&*!|>"):
            raise InvalidInput(f"line {number} of the header has {said!r:.60}; a header has no anchors, tags and blocks of YAML")
        parts = [whole] if single else [whole[start:stop] for start, stop in _between(whole, ",")]
        found[last] = [_bare(part) for part in parts if part.strip()]
    return found


def _uncommented(line: str) -> str:
    """A line without its comment, which begins after a space and outside of quotes."""
    return next((line[:stop] for _, stop in _between(line, "#") if line[max(0, stop - 1) : stop] in (" ", "\t", "")), line)


def _between(text: str, mark: str) -> Iterator[tuple[int, int]]:
    """Where the parts of a text begin and end that a letter outside of quotes separates."""
    quote, start = "", 0
    for n, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and (not n or text[n - 1] in " \t[{,:"):
            quote = letter
        elif letter == mark:
            yield start, n
            start = n + 1
    yield start, len(text)


def _bare(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _text(header: dict[str, list[str]], key: str) -> str | None:
    given = header.get(key)
    if given is None:
        return None
    if len(given) != 1:
        raise InvalidInput(f"{key!r} has one value, not {len(given)}")
    return given[0]


def _one(header: dict[str, list[str]], key: str, default: str, known: tuple[str, ...]) -> str:
    given = _text(header, key) or default
    if given not in known:
        raise InvalidInput(f"{key!r} is one of {', '.join(known)}, not {given!r}{did_you_mean(given, known)}")
    return given


def _count(header: dict[str, list[str]], key: str, least: int) -> int | None:
    given = _text(header, key)
    if given is None:
        return None
    if not given.isdecimal() or int(given) < least:
        raise InvalidInput(f"{key!r} is a whole number from {least}, not {given!r}")
    return int(given)


def _number(key: str, given: str) -> float:
    try:
        found = float(given)
    except ValueError:
        found = float("nan")
    if not abs(found) < float("inf"):
        raise InvalidInput(f"{key!r} needs a number, not {given!r}")
    return found


def _form(header: dict[str, list[str]]) -> Form:
    pairs = [_SCORED.fullmatch(value) or _PAIR.fullmatch(value) for value in header.get("values", ())]
    values = tuple(_bare(one[1]) for one in pairs if one)
    stated = [(one[2] or "").strip() for one in pairs if one]
    if not all(values) or len({v.casefold() for v in values}) != len(values):
        raise InvalidInput(f"values are different names; found {', '.join(map(repr, values))}")
    if any(stated) and not all(stated):
        raise InvalidInput("either each value has a score (careful = 1, careless = 0) or none has")
    scores = tuple(_number("values", score) for score in stated if score)
    for score in scores:
        if not 0 <= score <= 1:
            raise InvalidInput(f"the score of a value is a number from 0 to 1, not {score:g}")
    span = " to ".join(header["score"]) if len(header.get("score", ())) == 2 else _text(header, "score")
    if not values and span is None:
        raise InvalidInput(
            "a rubric has values ('values: good, bad'), a range of scores ('score: 0 to 1'), or both; found neither"
        )
    if scores and span is not None:
        raise InvalidInput("values that have scores need no 'score'; leave one of both out")
    low, high = 0.0, 1.0
    if span is not None:
        match = _RANGE.fullmatch(span)
        low, high = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
        if low >= high:
            raise InvalidInput(f"'score' is a range such as 0 to 1 or 1 to 5, not {span!r}")
    on = _one(header, "on", "trajectory", PARTS)
    return Form(values=values, scores=scores, low=low, high=high, scored=span is not None, on=cast(On, on))


def _settings(header: dict[str, list[str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, name in (("repeats", "repeats"), ("max-output-tokens", "max_output_tokens"), ("context", "context")):
        if (count := _count(header, key, 1)) is not None:
            found[name] = count
    for key, name in (("base-url", "base_url"), ("dialect", "dialect"), ("long", "long"), ("reducer", "reducer")):
        if (text := _text(header, key)) is not None:
            found[name] = text
    if (temperature := _text(header, "temperature")) is not None:
        found["params"] = {"temperature": _number("temperature", temperature)}
    if "prices" in header:
        prices = [_number("prices", one) for one in header["prices"]]
        if len(prices) != 2:
            raise InvalidInput(f"'prices' are two numbers, of prompts and of answers, not {len(prices)}")
        found["prices"] = tuple(prices)
    if (evidence := _text(header, "evidence")) is not None:
        if evidence.lower() not in (*_YES, *_NO):
            raise InvalidInput(f"'evidence' is yes or no, not {evidence!r}")
        found["evidence"] = evidence.lower() in _YES
    return found
