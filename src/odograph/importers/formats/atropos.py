"""Groups of Atropos: a line per group, with parallel lists of `tokens`, `masks`, `scores` and `messages`; or per sequence, with
the items of such lists.

A sequence is a trajectory of its group. A run of trained tokens (their mask is not -100) is one answer, and the tokens before
it are its prompt: so token ids are exact. Messages are a list of chat messages, or the rendered chat as one text, which is
kept in a note: where its messages begin and end is not told.

Source: NousResearch/atropos, atroposlib.api (ScoredData).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...prefix import Prefix
from ...shape import content_text, dicts, items, score, text, without
from ...types import End, LLMCall, Note, Reward, Start, Tokens
from ..session import Session
from ..transcript import Transcript
from .benchmarks import first_row, rows

NAME = "atropos"
SURE = 40
_LISTS = (
    "tokens",
    "masks",
    "scores",
    "messages",
    "advantages",
    "inference_logprobs",
    "overrides",
    "ref_logprobs",
    "distillation",
    "distill_token_ids",
    "distill_logprobs",
)


#: What a teacher says of each token of a sequence.
_DISTILLED = ("distill_token_ids", "distill_logprobs")


def recognise(path: Path, head: bytes) -> bool:
    """A row with lists of tokens, masks and scores."""
    row = first_row(head)
    if row:
        return {"tokens", "masks", "scores"} <= row.keys() and isinstance(row["tokens"], list)
    start = head.lstrip()[:64].replace(b" ", b"")  # a line of a group is longer than the head
    return start.startswith(b'{"tokens":[') and len(head) >= 65536


def read(path: Path) -> Iterator[Session]:
    """A session per sequence of each group. Raises InvalidInput where there is none."""
    for row, key, count, warnings in rows(path, _is_group, "group with tokens and scores"):
        if all(type(token) is int for token in row["tokens"]):  # one sequence
            row = {n: [v] if n in _LISTS and v is not None else v for n, v in row.items()}
        for number, tokens in enumerate(items(row["tokens"])):
            session = Session(NAME, key, count, number)
            if number == 0:
                session.warnings.update(warnings)
            _sequence(path, session, row, number, items(tokens), f"{key[:16]}-{count}")
            yield session


def _is_group(row: dict[str, Any]) -> bool:
    return bool(items(row.get("tokens"))) and "scores" in row


def _nth(row: dict[str, Any], name: str, number: int) -> Any:
    values = items(row.get(name))
    return values[number] if number < len(values) else None


def _sequence(path: Path, session: Session, row: dict[str, Any], number: int, tokens: list[Any], group: str) -> None:
    said = _nth(row, "messages", number)
    chat = dicts(said)
    task = next((content_text(m.get("content")) for m in chat if m.get("role") == "user"), None)
    source = {"format": NAME, "path": path.name, "index": number, **without(row, *_LISTS)}
    more = {
        name: value
        for name in ("overrides", "advantages", "ref_logprobs", *_DISTILLED)
        if (value := _nth(row, name, number)) is not None
    }
    about = {k: v for k, v in {**source, **more}.items() if v is not None}
    session.add(Start(task=task, group=group, metadata={"source": about}), "start")
    if isinstance(said, str):
        session.add(Note(name="rendered", data={"text": said}), "rendered")
    ids = [t for t in tokens if type(t) is int]
    masks = items(_nth(row, "masks", number))
    if len(ids) < len(tokens) or len(masks) != len(tokens):
        session.warn("sequences whose tokens and masks do not match")
        ids, masks = [], []
    if masks and set(map(type, masks)) <= {int, bool} and set(masks) <= {0, 1} and masks != ids:  # plain: 1 is trained
        masks = [t if m else -100 for t, m in zip(ids, masks, strict=True)]
    logprobs = items(_nth(row, "inference_logprobs", number))
    answers = [m for m in range(len(chat)) if chat[m].get("role") == "assistant"]
    runs = _trained(masks)
    if chat and len(answers) != len(runs):
        runs, answers = (runs[-1:], answers[-1:]) if runs and answers else ([], answers)
    transcript = Transcript(session)
    shown = 0  # how many messages were told
    for turn in range(max(len(runs), len(answers))):
        a, b = runs[turn] if turn < len(runs) else (0, 0)
        lp = [float(p) if type(p) in (int, float) else None for p in logprobs[a:b]] if len(logprobs) == len(tokens) else None
        tokens_of: dict[str, Any] = {
            "prompt_token_ids": Prefix(ids, a) if a else None,
            "tokens": [Tokens(token_ids=ids[a:b], logprobs=lp)] if b > a else [],
            "prompt_tokens": a or None,
            "completion_tokens": b - a or None,
        }
        if turn < len(answers):
            _tell(transcript, chat[shown : answers[turn]])
            shown = answers[turn] + 1
            transcript.replied(chat[answers[turn]], **tokens_of)
        else:
            step = transcript.begin()
            session.add(LLMCall(step=step, origin="transcript", dialect="openai.chat", **tokens_of))
    _tell(transcript, chat[shown:])
    transcript.close()
    value = _nth(row, "scores", number)
    session.add(Reward(value=score(value)), "reward")
    session.add(End(), "end")


def _tell(transcript: Transcript, messages: list[dict[str, Any]]) -> None:
    """Messages that nobody sampled: a prompt holds them."""
    for message in messages:
        transcript.saw(message, observed=message.get("role") == "user")
        if message.get("role") == "tool":
            id, result = text(message.get("tool_call_id")), message.get("content")
            if not (transcript.result(id, result=result) if id else transcript.next_result(result=result)):
                transcript.session.warn("tool messages that answer no call")


def _trained(masks: list[Any]) -> list[tuple[int, int]]:
    """The runs of tokens that are trained."""
    runs: list[tuple[int, int]] = []
    start: int | None = None
    for n, mask in enumerate([*masks, -100]):
        trained = mask != -100 and n < len(masks)
        if trained and start is None:
            start = n
        elif not trained and start is not None:
            runs.append((start, n))
            start = None
    return runs
