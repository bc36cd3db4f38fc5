"""Dialects of token prompts: completions, SGLang's and vLLM's own: their views, batches, streams, and ids stored once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import dialects

LOGPROBS = {"tokens": ["a", "b"], "token_logprobs": [-0.5, None], "top_logprobs": [None, None], "text_offset": [0, 1]}


def completion(*texts: str, **more: Any) -> dict[str, Any]:
    choices = [{"index": i, "text": t, "finish_reason": "stop", "logprobs": None, **more} for i, t in enumerate(texts)]
    return {
        "id": "c",
        "object": "text_completion",
        "model": "m",
        "choices": choices,
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }


BODIES: dict[str, tuple[dict[str, Any], Any]] = {
    "openai.completions": (
        {"model": "m", "prompt": [1, 2]},
        completion("ab", token_ids=[10, 11], prompt_token_ids=[1, 2], logprobs={**LOGPROBS, "token_logprobs": [-0.1, -0.2]}),
    ),
    "sglang.generate": (
        {"input_ids": [1, 2], "return_logprob": True},
        {"text": "ab", "output_ids": [10, 11], "meta_info": {"finish_reason": {"type": "stop"}, "output_token_logprobs": [[-0.1, 10, None], [-0.2, 11, None]]}},
    ),
    "vllm.generate": (
        {"token_ids": [1, 2], "sampling_params": {}},
        {"request_id": "r", "choices": [{"index": 0, "token_ids": [10, 11], "finish_reason": "stop", "logprobs": {"content": [{"token": "token_id:10", "logprob": -0.1}, {"token": "token_id:11", "logprob": -0.2}]}}]},
    ),
    "openai.chat": (
        {"model": "m", "messages": [{"role": "user", "content": "q"}]},
        {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop", "logprobs": {"content": [{"logprob": -0.1}, {"logprob": -0.2}]}}],
            "sglext": {"input_ids": [1, 2], "output_ids": [[10, 11]]},
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("said", [True, False])
def test_a_body_by_hand_has_its_ids(store: odograph.Store, name: str, said: bool) -> None:
    """A whole body that is recorded by hand has the ids and logprobs that are in it, also where nobody says its dialect."""
    request, response = BODIES[name]
    with store.record(task="t", agent="a", model="m") as run, run.step() as step:
        step.llm_call(request=request, response=response, dialect=name if said else None)
    t = store.trajectory(run.id)
    (call,) = t.llm_calls
    (choice,) = call.choices
    assert (call.prompt_token_ids, choice.token_ids, choice.logprobs, choice.finish_reason) == (
        [1, 2],
        [10, 11],
        [-0.1, -0.2],
        "stop",
    )
    assert (call.request, call.response) == (request, response)
    samples = odograph.samples([t])
    assert [row.token_ids for row in samples] == [[1, 2, 10, 11]] and samples.report.trained == 2


def test_batches_keep_each_prompt_with_its_answers() -> None:
    """Of several prompts, each answer knows its own: n of the first prompt come first, in whatever order they arrive."""
    dialect = dialects.get("openai.completions")
    request = {"prompt": ["one", "two"], "n": 2}
    body = completion("1a", "1b", "2a", "2b")
    body["choices"].reverse()
    sent = dialect.messages(request)
    assert {c.text: sent[c.prompt]["content"] for c in dialect.answers(request, body)} == {
        "1a": "one",
        "1b": "one",
        "2a": "two",
        "2b": "two",
    }
    call = odograph.types.LLMCall(
        id="c",
        dialect="openai.completions",
        request={"prompt": [[1, 2], [3]]},
        response=completion("a", "b", prompt_token_ids=[1, 2]),
    )
    assert dialects.prompt_ids(call) is None  # which of the two
    assert [c.prompt for c in dialect.answers(call.request, call.response)] == [0, 1]
    bodies = [{"text": t, "output_ids": [n], "meta_info": {"prompt_tokens": 2}} for n, t in enumerate("abcd")]
    native = dialects.get("sglang.generate")
    assert [(c.text, c.prompt) for c in native.answers({"text": ["x", "y"]}, bodies)] == [("a", 0), ("b", 0), ("c", 1), ("d", 1)]
    assert native.usage(native.stated(bodies)).prompt == 8


def test_streams_amount_to_the_answer() -> None:
    """Streams of completions, of both ways in which SGLang streams, and of vLLM are put together to the body without streaming."""
    pieces = [
        {"id": "c", "choices": [{"index": 0, "text": "a", "token_ids": [5], "prompt_token_ids": [1], "logprobs": {"token_logprobs": [-0.5], "tokens": ["a"]}, "finish_reason": None}]},
        {"id": "c", "choices": [{"index": 0, "text": "b", "token_ids": [6], "logprobs": {"token_logprobs": [-0.25], "tokens": ["b"]}, "finish_reason": "stop"}]},
        {"id": "c", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
    ]  # fmt: skip
    old = dialects.get("openai.completions")
    body = old.assemble(pieces)
    (choice,) = old.choices(body)
    assert (choice.text, choice.token_ids, choice.logprobs, choice.finish_reason) == ("ab", [5, 6], [-0.5, -0.25], "stop")
    assert body["choices"][0]["prompt_token_ids"] == [1] and old.usage(body["usage"]).completion == 2
    assert "".join(map(old.delta, pieces)) == "ab"
    native = dialects.get("sglang.generate")
    for second in (
        {"text": "ab", "output_ids": [5, 6], "meta_info": {"finish_reason": {"type": "length"}, "output_token_logprobs": [[-0.5, 5, None], [-0.25, 6, None]]}},
        {"text": "b", "output_ids": [6], "meta_info": {"finish_reason": {"type": "length"}, "output_token_logprobs": [[-0.25, 6, None]]}},
    ):  # fmt: skip
        first = {"text": "a", "output_ids": [5], "meta_info": {"finish_reason": None, "output_token_logprobs": [[-0.5, 5, None]]}}
        (choice,) = native.choices(native.assemble([first, second]))
        assert (choice.text, choice.token_ids, choice.logprobs, choice.finish_reason) == ("ab", [5, 6], [-0.5, -0.25], "length")
    vllm = dialects.get("vllm.generate")
    chunks = [
        {"request_id": "r", "choices": [{"index": 0, "token_ids": [n], "finish_reason": f}]} for n, f in ((5, None), (6, "stop"))
    ]
    (choice,) = vllm.choices(vllm.assemble(chunks))
    assert (choice.token_ids, choice.finish_reason) == ([5, 6], "stop")


def test_prompts_of_ids_are_stored_once(tmp_path: Path) -> None:
    """A prompt of ids that grows costs what is new of it, and each call reads back as it was sent, wherever its ids stand."""
    sizes = []
    for steps in (20, 40):
        with odograph.open(tmp_path / str(steps)) as store:
            with store.record(task="t") as run:
                ids: list[int] = list(range(2000))
                for n in range(steps):
                    response = completion("a", token_ids=[n], prompt_token_ids=list(ids))
                    run.step().llm_call(
                        request={"model": "m", "prompt": list(ids)}, response=response, dialect="openai.completions"
                    )
                    ids += [n, 7, 7]
            calls = store.trajectory(run.id).llm_calls
        assert [len(c.prompt_token_ids or []) for c in calls] == [2000 + 3 * n for n in range(steps)]
        assert all(c.request["prompt"] == c.response["choices"][0]["prompt_token_ids"] for c in calls)
        sizes.append(sum(p.stat().st_size for p in (tmp_path / str(steps) / "journal").glob("*.jsonl")))
    assert sizes[1] - sizes[0] < 30_000  # 20 calls; the ids of one alone take 9 KB


def test_secrets_in_a_prompt_take_its_ids_along(tmp_path: Path) -> None:
    """Where a secret is taken out of a prompt's text, the ids that are sent beside the text go, too."""
    secret = "sk-ant-" + "a1B2" * 12
    with odograph.open(tmp_path / "s", redact=True) as store:
        with store.record(task="t") as run:
            request = {"text": f"key {secret}", "input_ids": [1, 2, 3]}
            run.step().llm_call(
                request=request, response={"text": "b", "output_ids": [4], "meta_info": {}}, dialect="sglang.generate"
            )
        (call,) = store.trajectory(run.id).llm_calls
    assert secret not in str(call.request) and "input_ids" not in call.request and call.prompt_token_ids is None
