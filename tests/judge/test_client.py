"""The judge's client against a real server: bounds, retries, reading, journal, cache, budget."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import odograph
from odograph import Budget, InvalidInput, Judge
from odograph.asking import posting
from odograph.asking.parsing import read, shape, values
from tests.judge.made import Crowd, judge
from tests.llm_server import Answer, LLMServer
from tests.waiting import until

SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "number"}, "why": {"type": "string"}},
    "required": ["score"],
    "additionalProperties": False,
}
GOOD = Answer(text='{"score": 0.5, "why": "so"}')


def ask(one: Judge, prompts: list[Any], schema: Any = SCHEMA, **more: Any) -> list[odograph.Answer]:
    return asyncio.run(one.ask(prompts, schema, **more))


@pytest.fixture(params=["aiohttp", "httpx2"])
def poster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With aiohttp, and as if it were not installed."""
    if request.param == "httpx2":
        monkeypatch.setitem(sys.modules, "aiohttp", None)
    posting.is_possible.cache_clear()
    yield
    posting.is_possible.cache_clear()


# --- bounds and retries -----------------------------------------------------------------------------------------------


def test_concurrency_really_bounds(tmp_path: Path) -> None:
    """However many ask at once, the server never has more requests under way than `max_concurrency`, and reaches that."""
    crowd = Crowd(lambda request: GOOD, 0.03)
    with LLMServer(crowd) as server:
        one = judge(server, max_concurrency=3, journal=tmp_path)

        async def main() -> list[list[odograph.Answer]]:
            return await asyncio.gather(*(one.ask([f"{n} {m}" for m in range(8)], SCHEMA) for n in range(4)))

        answers = asyncio.run(main())
        assert len(server.requests) == 32
    assert crowd.most == 3
    assert all(a.status == "ok" for row in answers for a in row)


def test_the_collector_is_as_it_was_when_the_answers_are_there(tmp_path: Path) -> None:
    """While many answers are awaited, Python's collector looks less often; afterwards its thresholds are those of before, whoever asks
    at once or fails. One that is switched off stays off, one that the program sets meanwhile stays as it was set, and a few questions
    change nothing."""
    seen: list[int] = []
    settings: list[tuple[int, int, int]] = []

    def answered(request: Any) -> Answer:
        seen.append(gc.get_threshold()[0])
        if settings:
            gc.set_threshold(*settings.pop(0))
        return GOOD

    async def several(one: Judge, each: int) -> None:
        parts = [one.ask([f"{part} {n}" for n in range(each)], SCHEMA) for part in range(2)]
        failing = one.ask([f"x {n}" for n in range(each)], SCHEMA, progress=lambda done: 1 // 0)
        found = await asyncio.gather(*parts, failing, return_exceptions=True)
        assert isinstance(found[-1], ZeroDivisionError)

    before = gc.get_threshold()
    with LLMServer(Crowd(answered, 0.0)) as server:
        for n, (each, set_before, set_meanwhile) in enumerate(
            [(100, before, None), (100, (0, 10, 10), None), (100, before, (2_000, 5, 5)), (3, before, None)]
        ):
            seen.clear()
            settings[:] = [] if set_meanwhile is None else [set_meanwhile]
            gc.set_threshold(*set_before)
            try:
                asyncio.run(several(judge(server, journal=tmp_path / str(n), max_concurrency=16), each))
                assert gc.get_threshold() == (set_meanwhile or set_before)
                assert seen[0] == (50_000 if set_before[0] and each == 100 else set_before[0])
            finally:
                gc.set_threshold(*before)


def test_answers_come_in_the_order_of_their_prompts(tmp_path: Path) -> None:
    """A server that answers the first prompts last changes nothing."""

    def slow_first(request: dict[str, Any]) -> Answer:
        number = int(request["messages"][0]["content"])
        time.sleep(0.02 * (6 - number))
        return Answer(text=f'{{"score": {number / 10}}}')

    with LLMServer(slow_first) as server:
        answers = ask(judge(server, journal=tmp_path), [str(n) for n in range(6)])
    assert [a.value["score"] for a in answers] == [n / 10 for n in range(6)]


@pytest.mark.parametrize(
    "bad",
    [
        Answer(status=429, text="slow down"),
        Answer(status=500, text="oh"),
        Answer(raw=b"<html>gateway</html>"),
        Answer(drop_after=0),
        Answer(drop_after=20),
    ],
    ids=["429", "500", "garbage", "closed", "cut"],
)
def test_what_may_pass_is_retried(bad: Answer, tmp_path: Path, poster: None) -> None:
    """429, 500, a body that is none, a connection that closes: asked again, and then answered."""
    with LLMServer([bad, bad, GOOD]) as server:
        (answer,) = ask(judge(server, journal=tmp_path), ["a"])
        assert len(server.requests) == 3
    assert (answer.status, answer.value) == ("ok", {"score": 0.5, "why": "so"})


def test_a_slow_answer_is_given_up_and_asked_again(tmp_path: Path, poster: None) -> None:
    """An attempt that takes longer than `timeout` is one that failed."""
    with LLMServer([Answer(delay=5), GOOD]) as server:
        (answer,) = ask(judge(server, timeout=1, journal=tmp_path), ["a"])
    assert answer.status == "ok"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_packed_answer_is_unpacked(encoding: str, tmp_path: Path, poster: None) -> None:
    """Answers may come compressed; the journal has them as text."""
    with LLMServer([Answer(text='{"score": 0.5}', encoding=encoding)]) as server:
        (answer,) = ask(judge(server, journal=tmp_path), ["a"])
    assert answer.status == "ok" and "score" in next(tmp_path.glob("*.jsonl")).read_text()


def test_an_address_that_answers_nothing_is_named(tmp_path: Path, poster: None) -> None:
    """A port where nobody listens, a host that is none, an address that is none, a redirect: an http_error that names the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    for url, said in ((nobody, "onnect"), ("http://no.host.invalid/v1", ""), ("http://[oh/v1", ""), ("ftp://127.0.0.1/v1", "")):
        (answer,) = ask(Judge("m", url, api_key="x", max_retries=0, journal=tmp_path), ["a"])
        assert answer.status == "http_error" and url in str(answer.error) and said in str(answer.error), answer
    with LLMServer([Answer(status=302, text="over there")]) as server:
        (answer,) = ask(judge(server, journal=tmp_path), ["a"])
    assert answer.status == "http_error" and "HTTP 302" in str(answer.error)


def test_a_prompt_that_fails_fails_alone(tmp_path: Path, poster: None) -> None:
    """A server error, a refusal, a prompt too long, an answer that can't be read: each has its status, no value, and the raw text."""
    long = "This model's maximum context length is 8192 tokens"
    said = {
        "error": Answer(status=403, text="no"),
        "long": Answer(status=400, text=long),
        "bad": Answer(text="I think it is fine"),
        "refuse": Answer(text="", extra={"choices": [{"index": 0, "message": {"role": "assistant", "refusal": "I won't"}}]}),
        "good": GOOD,
    }
    with LLMServer(lambda request: said[request["messages"][0]["content"]]) as server:
        answers = dict(zip(said, ask(judge(server, journal=tmp_path, max_retries=0), list(said)), strict=True))
    assert {k: a.status for k, a in answers.items()} == {
        "error": "http_error",
        "long": "over_context",
        "bad": "parse_error",
        "refuse": "refused",
        "good": "ok",
    }
    assert all((a.value is None) == (a.status != "ok") for a in answers.values())
    assert answers["bad"].text == "I think it is fine"
    assert "no JSON" in str(answers["bad"].error)
    assert answers["refuse"].error == "I won't"
    assert "maximum context length" in str(answers["long"].error)


def test_an_invalid_answer_is_asked_again_and_told_why(tmp_path: Path) -> None:
    """The judge sees its own answer and what was wrong with it; after `max_asks` it has failed."""

    def check(value: Any) -> Any:
        if not 0 <= value["score"] <= 1:
            raise InvalidInput(f"the score is {value['score']}, not from 0 to 1")
        return value["score"]

    with LLMServer([Answer(text='{"score": 7}'), Answer(text='{"score": 0.7}')]) as server:
        (answer,) = ask(judge(server, journal=tmp_path), ["a"], check=check)
        second = server.requests[1][1]["messages"]
    assert (answer.status, answer.value) == ("ok", 0.7)
    assert second[1] == {"role": "assistant", "content": '{"score": 7}'}
    assert "the score is 7" in second[2]["content"]
    with LLMServer([Answer(text='{"score": 7}')]) as server:
        (answer,) = ask(judge(server, max_asks=2, journal=tmp_path / "b"), ["a"], check=check)
        assert (answer.status, len(server.requests)) == ("parse_error", 2)


def test_an_endpoint_without_schemas_is_asked_without(tmp_path: Path) -> None:
    """The schema is sent where it is taken; an endpoint that refuses it is asked without, once and for all."""

    def old(request: dict[str, Any]) -> Answer:
        return Answer(status=400, text="unknown field response_format") if "response_format" in request else GOOD

    with LLMServer(old) as server:
        one = judge(server, journal=tmp_path, max_concurrency=1)
        assert [a.status for a in ask(one, ["a", "b", "c"])] == ["ok"] * 3
        assert ["response_format" in r for _, r in server.requests] == [True, False, False, False]
    with LLMServer([GOOD]) as server:
        ask(judge(server, journal=tmp_path / "b"), ["a"])
        assert server.requests[0][1]["response_format"]["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize("dialect", ["openai.chat", "openai.responses", "anthropic.messages"])
def test_dialects(dialect: str, tmp_path: Path) -> None:
    """A judge speaks each dialect of the agents; a system text is where the dialect has it."""
    prompt = [{"role": "system", "content": "judge"}, {"role": "user", "content": "a"}]
    with LLMServer([GOOD]) as server:
        (answer,) = ask(judge(server, dialect=dialect, journal=tmp_path), [prompt])
        assert "judge" in json.dumps(server.requests[0][1])
    assert answer.value == {"score": 0.5, "why": "so"}


def test_types_as_schemas(tmp_path: Path) -> None:
    """A type that msgspec knows is sent as its schema, and values are of it."""

    class Verdict(msgspec.Struct):
        score: float
        tags: list[str] = []

    with LLMServer([Answer(text='{"score": "0.5", "tags": ["a"]}')]) as server:
        (answer,) = ask(judge(server, journal=tmp_path), ["a"], Verdict)
        assert "score" in server.requests[0][1]["response_format"]["json_schema"]["schema"]["properties"]
    assert answer.value == Verdict(0.5, ["a"])


def test_nothing_is_recorded_as_an_agents_call(store: odograph.Store) -> None:
    """What a judge is asked within a run is no call of that run."""
    with LLMServer([GOOD]) as server, store.record(task="t") as run, run.step():
        ask(judge(server, journal=store.root / "judge"), ["a"])
    assert not store.trajectory(run.id).llm_calls


# --- journal, cache, budget -------------------------------------------------------------------------------------------


def test_without_a_store_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that works for no store and has no folder keeps its answers in memory: none is paid twice, and no store is touched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ODOGRAPH_STORE", str(tmp_path / "elsewhere"))
    with LLMServer([GOOD]) as server:
        one = judge(server)
        assert [a.cached for a in ask(one, ["a"]) + ask(one, ["a"])] == [False, True]
        assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_no_answer_is_paid_twice(tmp_path: Path) -> None:
    """The same question (prompt, model, parameters, repeat) is asked once, by this process and the next; any other is asked."""
    with LLMServer([GOOD]) as server:
        one = judge(server, journal=tmp_path)
        answers = ask(one, ["a", "a", "b"])
        assert len(server.requests) == 2
        again = ask(judge(server, journal=tmp_path), ["b", "a"])
        assert len(server.requests) == 2
        assert [a.cached for a in again] == [True, True]
        assert [a.value for a in again] == [answers[2].value, answers[0].value]
        ask(one, ["a"], repeat=1)
        ask(judge(server, model="other", journal=tmp_path), ["a"])
        ask(judge(server, journal=tmp_path, params={"temperature": 0.0}), ["a"])
        ask(one, ["a"], None)
        assert len(server.requests) == 6


def test_answers_are_kept_raw_before_they_are_read(tmp_path: Path) -> None:
    """Also an answer that can't be used is in the journal, byte for byte; a damaged line costs itself alone."""
    with LLMServer([Answer(text="nonsense"), GOOD]) as server:
        ask(judge(server, journal=tmp_path), ["a"])
        (file,) = tmp_path.glob("*.jsonl")
        bodies = [json.loads(line)["body"].encode() for line in file.read_text().splitlines()]
        assert bodies == server.responses
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"\x00torn" + lines[0][:20] + b"\n" + b"".join(lines) + lines[1][:30])
        (answer,) = ask(judge(server, journal=tmp_path), ["a"])
        assert answer.cached
        assert len(server.requests) == 2


def test_a_journal_that_is_named_inside_of_a_store_redacts_as_the_store(tmp_path: Path) -> None:
    """Also where the judge does not work for the store."""
    secret = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
    odograph.open(tmp_path / "s", redact=True).record(task="t").finish()
    with LLMServer([Answer(text=f"found {secret}")]) as server:
        (answer,) = ask(judge(server, journal=tmp_path / "s" / "judge"), ["a"], None)
    assert secret in (answer.text or "")
    (kept,) = (p.read_text() for p in (tmp_path / "s" / "judge").glob("*.jsonl"))
    assert "found [redacted:github_token]" in kept


def test_a_full_disk_stops_paying(tmp_path: Path) -> None:
    """Where an answer can't be kept, asking stops with one sentence."""
    (tmp_path / "file").write_text("")
    with LLMServer([GOOD]) as server:
        with pytest.raises(odograph.StoreError, match="can't be written"):
            ask(judge(server, journal=tmp_path / "file" / "judge", max_concurrency=1), ["a", "b", "c"])
        assert len(server.requests) == 1


def test_a_killed_process_loses_no_answer(tmp_path: Path) -> None:
    """SIGKILL in the middle: what the server had answered is not asked again."""
    code = (
        "import asyncio, sys, odograph\n"
        "judge = odograph.Judge('j', sys.argv[1], journal=sys.argv[2], max_concurrency=2)\n"
        "asyncio.run(judge.ask([str(n) for n in range(12)]))\n"
    )
    gate = threading.Event()

    def answer(request: dict[str, Any]) -> Answer:
        if int(request["messages"][0]["content"]) >= 6:
            gate.wait()
        return Answer(text="fine")

    with LLMServer(answer) as server:
        child = subprocess.Popen([sys.executable, "-c", code, server.url + "/v1", str(tmp_path)], env=os.environ)
        # six answers are kept, and the two requests that may be under way at once have arrived
        until(lambda: sum(p.read_text().count("\n") for p in tmp_path.glob("*.jsonl")) == 6 and len(server.requests) == 8, child)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        gate.set()
        before = len(server.requests)
        answers = ask(judge(server, journal=tmp_path), [str(n) for n in range(12)], None)
        asked = sorted(int(r["messages"][0]["content"]) for _, r in server.requests[before:])
    assert [a.cached for a in answers] == [True] * 6 + [False] * 6
    assert asked == [6, 7, 8, 9, 10, 11]


def test_a_budget_is_never_exceeded(tmp_path: Path) -> None:
    """Calls, tokens and cost: a request that could take them above the ceiling is not sent, also with many under way."""
    with LLMServer(Crowd(lambda request: GOOD, 0.01)) as server:
        answers = ask(judge(server, journal=tmp_path / "a", budget=Budget(calls=5)), [str(n) for n in range(20)])
        assert len(server.requests) == 5
        assert sorted(a.status for a in answers) == ["ok"] * 5 + ["over_budget"] * 15
        assert "5 calls" in next(str(a.error) for a in answers if a.status == "over_budget")
        budget = Budget(tokens=1000)
        ask(judge(server, journal=tmp_path / "b", budget=budget, params={"max_tokens": 100}), [str(n) for n in range(200)])
        assert 0 < budget.spent["tokens"] <= 1000
        dear = Budget(cost=0.05)
        ask(
            judge(server, journal=tmp_path / "c", budget=dear, prices=(100.0, 500.0), params={"max_tokens": 3}),
            [str(n) for n in range(200)],
        )
        assert 0 < dear.spent["cost"] <= 0.05
        count = len(server.requests)
        free = ask(judge(server, journal=tmp_path / "a", budget=Budget(calls=0)), [str(n) for n in range(20)])
        assert sum(a.status == "ok" for a in free) == 5  # what is in the journal costs nothing
        assert len(server.requests) == count


def test_retries_count_as_calls(tmp_path: Path) -> None:
    """Each request that is sent is one, whatever it was answered."""
    with LLMServer([Answer(status=500)]) as server:
        (answer,) = ask(judge(server, journal=tmp_path, budget=Budget(calls=2)), ["a"])
        assert len(server.requests) == 2
    assert answer.status == "over_budget"


def test_misuse_is_one_sentence() -> None:
    """Wrong arguments say what was found and what was expected."""
    for wrong in (
        {"max_concurrency": 0},
        {"max_asks": 0},
        {"dialect": "x"},
        {"context": -1},
        {"prices": (1, -1)},
        {"params": {"stream": True}},
        {"params": {"temperature": float("nan")}},
        {"params": "temperature=0"},
        {"prices": 5},
        {"timeout": -1},
        {"batch_poll": 0},
        {"budget": Budget(cost=1.0)},
    ):
        with pytest.raises(InvalidInput):
            Judge("m", **wrong)  # type: ignore[arg-type]
    for value in (-1, float("nan"), True):
        with pytest.raises(InvalidInput):
            Budget(calls=value)
    with pytest.raises(TypeError, match="prompt"):
        asyncio.run(Judge("m").ask([{"role": "user"}]))  # type: ignore[list-item]
    with pytest.raises(TypeError, match="schema"):
        asyncio.run(Judge("m").ask(["a"], object()))


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"score": 0.9}',
        'Sure! Here it is: {"score": 0.9} I hope that helps {or not}.',
        '```json\n{"score": 0.9}\n```',
        '```\n{\n  "score": 0.9,\n}\n```',
        '{"score": 0.9, // quite good\n}',
        "{'score': 0.9, 'why': None}",
        '<think>{"score": 0.1} perhaps?</think>{"score": 0.9}',
        'maybe {"score": 0.1}</think> {"score": 0.9}',
        '{"score": 0.9} and once more {"score": 0.9}',
        '[1] shows that {"score": 0.9}',
        "**SCORE:** 0.9",
        "Reason: fine\nscore = 0.9",
    ],
)
def test_lenient_with_form(text: str) -> None:
    """Prose, fences, trailing commas, comments, other quotes, thoughts, lines: the same value is read."""
    assert read(text, shape(SCHEMA))["score"] == 0.9


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.9 I'd say",
        '{"score": NaN}',
        "**SCORE:** nan",
        '{"score": 0.9, "score": 0.1}',
        '{"score": 0.9} no: {"score": 0.1}',
        "score: 0.9\nscore: 0.1",
        '{"score": 0.9',
        '{"why": "no score"}',
        "[" * 100_000,
        "{" * 100_000,
        '{"a":' * 50_000,
    ],
    ids=lambda t: t[:20],
)
def test_strict_with_content(text: str) -> None:
    """Nothing is guessed: NaN, two answers that differ, half an answer, none."""
    with pytest.raises(InvalidInput):
        read(text, shape(SCHEMA))


@given(st.text(alphabet="{}[]\",:'\\ \nab0.9<>/*", max_size=200))
def test_reading_never_raises_for_content(text: str) -> None:
    """Whatever a judge writes is read or refused."""
    try:
        for value in values(text):
            json.dumps(value, allow_nan=False)
    except InvalidInput:
        pass
    with contextlib.suppress(InvalidInput):
        read(text, shape(SCHEMA))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=4), st.sampled_from(["", "So: ", "```json\n"]), st.booleans())
def test_any_object_is_found_in_prose(value: dict[str, Any], before: str, indented: bool) -> None:
    """An object comes back value-equal, whatever its strings hold."""
    text = before + json.dumps({"score": 0, **value}, indent=2 if indented else None) + "\nThat is all."
    assert read(text, shape(SCHEMA)) == {"score": 0, **value}


# --- what an endpoint does not take, and when nothing more is asked ------------------------------------------------------------


def _refusing(message: str, *names: str) -> Any:
    """A server that refuses requests with any of these fields."""

    def answer(request: dict[str, Any]) -> Answer:
        if any(name in request for name in names):
            return Answer(status=400, text=message)
        return GOOD

    return answer


@pytest.mark.parametrize(
    ("message", "names", "renamed"),
    [
        ("Unsupported value: 'temperature' does not support 0 with this model.", ["temperature"], False),
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            ["max_tokens"],
            True,
        ),
        ("seed, temperature: Extra inputs are not permitted", ["seed", "temperature"], False),
    ],
)
def test_fields_that_an_endpoint_does_not_take_are_left_out_once(
    message: str, names: list[str], renamed: bool, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """One request is refused; it is asked again without these fields, and so are all others. Odograph warns once."""
    params = {"temperature": 0, "seed": 7, "max_tokens": 100, "top_p": 0.5}
    with LLMServer(_refusing(message, *names)) as server:
        one = judge(server, params=params, journal=tmp_path, max_concurrency=1)
        answers = ask(one, ["a", "b", "c"])
        sent = [body for _, body in server.requests]
    assert [a.status for a in answers] == ["ok"] * 3
    assert len(sent) == 4
    assert all(name in sent[0] and name not in body for name in names for body in sent[1:])
    assert all(body["top_p"] == 0.5 for body in sent)
    assert [body.get("max_completion_tokens") for body in sent[1:]] == [100 if renamed else None] * 3
    assert [r.getMessage() for r in caplog.records if "does not take" in r.getMessage()] != []
    assert len([r for r in caplog.records if "does not take" in r.getMessage()]) == 1


def test_a_wrong_value_is_an_error_not_left_out(tmp_path: Path) -> None:
    """A temperature of 9 is the caller's mistake: the judge does not silently use another one."""
    message = "Invalid 'temperature': decimal above maximum value. Expected a value <= 2."
    with LLMServer(_refusing(message, "temperature")) as server:
        (answer,) = ask(judge(server, params={"temperature": 9}, journal=tmp_path), ["a"])
        assert all("temperature" in body for _, body in server.requests)
    assert answer.status == "http_error"
    assert "above maximum" in str(answer.error)


def test_nothing_is_asked_of_an_account_without_money(tmp_path: Path) -> None:
    """429 with `insufficient_quota` does not pass by waiting: one request, and every prompt says why."""
    body = {"error": {"message": "You exceeded your current quota.", "type": "insufficient_quota", "code": "insufficient_quota"}}
    with LLMServer(lambda request: Answer(status=429, raw=json.dumps(body).encode())) as server:
        answers = ask(judge(server, journal=tmp_path, max_concurrency=1), ["a", "b", "c"])
        assert len(server.requests) == 1
    assert [a.status for a in answers] == ["http_error"] * 3
    assert all("insufficient_quota" in str(a.error) for a in answers)


def test_answers_in_tool_calls_are_read(tmp_path: Path) -> None:
    """A model that calls a tool of its own naming with the answer has answered."""
    call = {"id": "c", "type": "function", "function": {"name": "answer", "arguments": '{"score": 0.25}'}}
    said = {"role": "assistant", "content": "My judgement:", "tool_calls": [call]}
    made = Answer(text="", extra={"choices": [{"index": 0, "message": said, "finish_reason": "tool_calls"}]})
    with LLMServer([made]) as server:
        (answer,) = ask(judge(server, journal=tmp_path), ["a"])
    assert (answer.status, answer.value) == ("ok", {"score": 0.25})
