"""Reward functions that many need. Each is a reward function as it stands, or with other parameters by `.using(...)`.

What agents wrote is hostile: where a field is not what a function looks for, the reward is not known (None); nothing raises.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from ..codec import encode
from ..errors import InvalidInput, MissingExtra
from ..plugins import available
from ..trajectory import Trajectory, stated_success
from .functions import LIBRARY, reward

_TAIL = 20_000  # characters of a result in which a summary of tests is looked for
_PROFITS = ("pnl", "realized_pnl", "realizedPnL", "realizedPnl", "profit")
_STAKES = ("stake", "investment", "initial_investment", "initialInvestment", "amount")
_SECONDS = ("seconds", "execution_seconds")
_MILLISECONDS = ("executionTime", "execution_time", "execution_time_ms")


@reward(version="1", range=(0, 1))
def completion(t: Trajectory) -> float | None:
    """1 where it ended as completed, 0 where it ended in another way; None where it has no end."""
    return None if t.end is None else float(t.end.status == "completed")


@reward(version="3", range=(0, 1))
def success(t: Trajectory) -> float | None:
    """1 where its last action worked, 0 where that failed, or its result says so; None where no action says anything."""
    for done in reversed(t.actions):
        stated = stated_success(done.result)
        if done.ok is not None or stated is not None:
            return float(done.ok is not False and stated is not False)
    return None


@reward(version="1")
def outcome(t: Trajectory, *, field: str = "outcome") -> float | None:
    """The number (or true, false) that the environment stated for it, however late: the value of the latest note of this name,
    else the end record's metric, else the metadata's field. None until one is there."""
    noted = next((n.data for n in reversed(t.notes) if n.name == field), None)
    stated = (noted, t.end.metrics.get(field) if t.end is not None else None, t.metadata.get(field))
    return next((found for value in stated if (found := _number(value, truth=True)) is not None), None)


@reward(version="1", range=(0, 1))
def answer_match(t: Trajectory, *, expected: str = "expected") -> float | None:
    """1 where the answer is the expected one, 0 where it is another or there is none. The expected one is a field of the task, or
    of the metadata; None where there is none, or no end. Text is compared without case and white space around words."""
    task = t.task if isinstance(t.task, dict) else {}
    wanted = task.get(expected, t.metadata.get(expected))
    if wanted is None or t.end is None:
        return None
    return float(_plain(t.answer) == _plain(wanted))


# --- efficiency -----------------------------------------------------------------------------------------------------


@reward(version="1", range=(0, 1))
def step_efficiency(t: Trajectory, *, budget: float) -> float | None:
    """1 - steps / budget, at least 0."""
    return _left(len(t.steps), budget)


@reward(version="1", range=(0, 1))
def token_efficiency(t: Trajectory, *, budget: float, prompt: bool = True) -> float | None:
    """1 - tokens / budget, at least 0: of all calls prompts and completions, with `prompt=False` completions alone. None where a
    call's usage is not known, or there is no call."""
    used = [c.completion_tokens for c in t.llm_calls]
    if prompt:
        used += [c.prompt_tokens for c in t.llm_calls]
    return _spent(used, budget)


@reward(version="1", range=(0, 1))
def time_efficiency(t: Trajectory, *, budget: float) -> float | None:
    """1 - duration / budget, both in seconds, at least 0. None where its duration is not known."""
    return _left(t.duration, budget)


@reward(version="1", range=(0, 1))
def cost_efficiency(t: Trajectory, *, budget: float) -> float | None:
    """1 - cost / budget, in the currency that calls state theirs in, at least 0. None where the cost of a call is not known."""
    return _spent([c.cost for c in t.llm_calls], budget)


# --- form -----------------------------------------------------------------------------------------------------------


@reward(version="1", range=(0, 1))
def json_format(t: Trajectory) -> float | None:
    """1 where the answer is JSON (an object or a list, as text or as it is), else 0; None where it has no end."""
    return None if t.end is None else float(isinstance(_json(t.answer), (dict, list)))


@reward(version="1", range=(0, 1))
def pattern_format(t: Trajectory, *, pattern: str) -> float | None:
    """1 where all of the answer's text matches the regular expression (`.` matches line ends too), else 0; None where it has no
    end. Patterns with nested repeats take forever on some texts: agents can find them."""
    try:
        compiled = re.compile(pattern, re.S)
    except (re.error, TypeError) as error:
        raise InvalidInput(f"{pattern!r} is no regular expression: {error}") from None
    return None if t.end is None else float(isinstance(t.answer, str) and compiled.fullmatch(t.answer) is not None)


@reward(version="1", range=(0, 1))
def schema_adherence(t: Trajectory, *, schema: Any) -> float | None:
    """1 where the answer (JSON text, or a value) fits a JSON schema, else 0; None where it has no end. `schema`: an object,
    or the file of one. Raises MissingExtra without jsonschema."""
    if not available("jsonschema"):
        raise MissingExtra("schema adherence", "schema")
    if t.end is None:
        return None
    import jsonschema

    if isinstance(schema, str):
        try:
            with open(schema, "rb") as file:
                schema = msgspec.json.decode(file.read())
        except (OSError, msgspec.DecodeError) as error:
            raise InvalidInput(f"no JSON schema in {schema!r}: {error}") from None
    try:
        kind = jsonschema.validators.validator_for(schema)
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidInput(f"no JSON schema: {error.message}") from None
    return 1.0 if kind(schema).is_valid(_json(t.answer)) else 0.0


@reward(version="1", range=(0, 1))
def length(t: Trajectory, *, limit: float, unit: str = "characters", slack: float = 1.0) -> float | None:
    """1 up to `limit`, then falling in a line to 0 at (1 + slack) * limit: of the answer's characters or words, or of the
    completion tokens of all calls to act (`unit="tokens"`). None where these are not known."""
    if unit not in ("characters", "words", "tokens"):
        raise InvalidInput(f"unit is characters, words or tokens, not {unit!r}")
    if not limit > 0 or not slack > 0:
        raise InvalidInput(f"a limit and a slack are above 0, not {limit} and {slack}")
    size: int
    if unit == "tokens":
        used = [c.completion_tokens for c in t.llm_calls if c.purpose == "act"]
        if not used or None in used:
            return None
        size = sum(n for n in used if n is not None)
    else:
        if t.answer is None:
            return None
        text = t.answer if isinstance(t.answer, str) else encode(t.answer).decode()
        size = len(text) if unit == "characters" else len(text.split())
    return float(min(1.0, max(0.0, 1.0 - (size - limit) / (slack * limit))))


# --- what came of it ------------------------------------------------------------------------------------------------

#: Counts in the summary line of pytest, jest and cargo: "3 passed", "1 failed", "2 errors".
_COUNT = re.compile(r"(\d{1,9}) (passed|failed|errors?)\b")
_SUMMARY = re.compile(r"\b\d{1,9} (?:passed|failed)\b|\b\d{1,9} errors? in \d")
_UNITTEST = re.compile(r"^Ran (\d{1,9}) tests? in ", re.M)
_UNITTEST_BAD = re.compile(r"\b(?:failures|errors)=(\d{1,9})")


@reward(version="1", range=(0, 1))
def unit_tests(t: Trajectory, *, action: str | None = None) -> float | None:
    """The share of tests that passed, by the last action (of this name) whose result tells: counts as `{"passed", "failed",
    "errors"}`, `{"passed": true}`, or the text of a test runner (pytest, unittest, jest, cargo). Nothing is run.

    An agent can print such a summary itself: name the action that runs the tests."""
    for done in reversed(t.actions):
        if action is not None and done.name != action:
            continue
        share = _tests(done.result)
        if share is not None:
            return share
    return None


@reward(version="1")
def profit(
    t: Trajectory, *, profit: str | Sequence[str] = _PROFITS, stake: str | Sequence[str] = _STAKES, loss: float | None = None
) -> float | None:
    """Profit by stake: the profits over the stakes of all actions whose results state both (a P&L of 0 is 0). `profit`, `stake`:
    the names under which results have them. `loss`: what a loss gives instead. None where none states both, or nothing was
    staked."""
    gained = staked = 0.0
    for done in t.actions:
        one, other = _field(done.result, profit), _field(done.result, stake)
        if one is not None and other is not None:
            gained, staked = gained + one, staked + other
    if not staked > 0:
        return None
    return loss if loss is not None and gained < 0 else gained / staked


@reward(version="1", range=(-1, 1))
def multi_factor(t: Trajectory, *, confident: str = "high confidence", seconds: float = 1.0) -> float | None:
    """Half of the last result's profit by stake where it is one, a quarter where the action took less than `seconds`, a quarter
    where the last call's thinking has the words `confident`; within [-1, 1]. None where no profit is known yet."""
    gained, staked = _field(t.result, _PROFITS), _field(t.result, _STAKES)
    if gained is None:
        return None
    total = 0.5 * gained / staked if gained > 0 and staked is not None and staked > 0 else 0.0
    took = _took(t)
    if took is not None and took < seconds:
        total += 0.25
    thinking = t.llm_call.thinking if t.llm_call is not None else None
    if isinstance(thinking, str) and confident in thinking:
        total += 0.25
    return min(1.0, max(-1.0, total))


# --- what agents wrote ----------------------------------------------------------------------------------------------


LIBRARY.update(
    (fn.name, fn)
    for fn in (
        completion,
        success,
        outcome,
        answer_match,
        step_efficiency,
        token_efficiency,
        time_efficiency,
        cost_efficiency,
        json_format,
        pattern_format,
        schema_adherence,
        length,
        unit_tests,
        profit,
        multi_factor,
    )
)
NAMES: tuple[str, ...] = tuple(LIBRARY)


def _number(value: Any, truth: bool = False) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool):
        return float(value) if truth else None
    if not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _field(value: Any, names: str | Sequence[str]) -> float | None:
    """The first of these fields of an object that is a number."""
    if not isinstance(value, dict):
        return None
    known = (_number(value.get(n)) for n in ([names] if isinstance(names, str) else names))
    return next((n for n in known if n is not None), None)


def _json(value: Any) -> Any:
    """A value, or what JSON text says."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value.strip())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return value


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else encode(value).decode()
    return " ".join(text.split()).casefold()


def _left(used: float | None, budget: float) -> float | None:
    if not budget > 0:
        raise InvalidInput(f"a budget is above 0, not {budget}")
    return None if used is None else min(1.0, max(0.0, 1.0 - used / budget))


def _spent(used: Sequence[float | None], budget: float) -> float | None:
    known = [n for n in map(_number, used) if n is not None]
    return _left(math.fsum(known) if used and len(known) == len(used) else None, budget)


def _took(t: Trajectory) -> float | None:
    """Seconds of the last action: as its result states them, else as it was recorded."""
    stated = _field(t.result, _SECONDS)
    if stated is not None:
        return stated
    stated = _field(t.result, _MILLISECONDS)
    if stated is not None:
        return stated / 1000
    last = t.actions[-1].duration if t.actions else None
    return None if last is None else last / 1e9


def _tests(result: Any) -> float | None:
    if isinstance(result, dict):
        passed = result.get("passed")
        if isinstance(passed, bool):
            return float(passed)
        counts = [_field(result, name) for name in ("passed", "failed", "errors")]
        good, bad = counts[0], sum(n for n in counts[1:] if n is not None)
        if good is not None and good >= 0 and bad >= 0 and good + bad > 0:
            return good / (good + bad)
        result = next((result[k] for k in ("output", "stdout", "content", "text") if isinstance(result.get(k), str)), None)
    if not isinstance(result, str):
        return None
    text = result[-_TAIL:]
    ran = _UNITTEST.findall(text)
    if ran:
        bad = sum(int(n) for n in _UNITTEST_BAD.findall(text[text.rfind("Ran ") :]))
        return max(0.0, 1.0 - bad / int(ran[-1])) if int(ran[-1]) else None
    for line in reversed(text.splitlines()):
        if _SUMMARY.search(line):
            found = _COUNT.findall(line)
            whole = sum(int(n) for n, _ in found)
            return sum(int(n) for n, word in found if word == "passed") / whole if whole else None
    return None
