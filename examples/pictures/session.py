"""A small store to look at: agents that mend a program, with tokens, an edit, rewards and labels. Written by hand."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import tokenizers

import odograph

MODULES = ("parser", "lexer", "cache", "router")
SYSTEM = "You mend programs. Read before you change anything, and run the tests after each change."
SAID = (
    "The test fails in `tokens()`. I read the module first, to see what it does with the last line.",
    "The loop stops one token early: `range(len(text) - 1)`. I change the bound and run the tests again, as the reviewer asked.",
    "One test still fails. It expects an empty list for an empty text, which the new bound gives only by accident.",
    "All tests pass now. The cause was the bound of the loop; the empty text has a test of its own.",
)
THOUGHT = (
    "The name of the test says that the last token is lost.",
    "An off-by-one error would explain both failures.",
    "I should not change the test to make it pass.",
    "Nothing is left to do.",
)
TOOLS = ("read_file", "edit_file", "run_tests", "run_tests")
RESULTS = (
    "def tokens(text):\n    out = []\n    for i in range(len(text) - 1):\n        out.append(text[i])\n    return out",
    "changed 1 line",
    "2 passed, 1 failed\nFAILED test_empty: assert tokens('') == []",
    "3 passed in 0.21 s",
)


def tokenizer(folder: Path) -> tuple[Any, Path]:
    """A tokenizer of the words that are said here, and its file."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([SYSTEM, *SAID, *RESULTS], trainer)
    made.save(str(folder / "tokenizer.json"))
    return made, folder / "tokenizer.json"


def record(store: odograph.Store, by: Any, module: str, attempt: int, now: int) -> str:
    """One attempt; returns its id. `now`: nanoseconds."""
    chance = random.Random(f"{module} {attempt}")
    question = f"The tests of {module} fail since yesterday. Find out why, and mend it."
    history: list[dict[str, Any]] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    ids = by.encode(f"{SYSTEM}\n{question}\n").ids
    good = attempt != 2
    with store.record(
        task=question, agent="mender", model="qwen3-8b", group=f"mend-{module}", policy_version=40 + attempt % 2, tags=["code"]
    ) as run:
        for n, said in enumerate(SAID if good else SAID[:3]):
            with run.step() as step:
                if n == 0:
                    step.context(
                        "repository",
                        {"files": [f"{module}.py", f"test_{module}.py"]},
                        query=module,
                        purpose="to know where to begin",
                    )
                answer = by.encode(said + "\n").ids
                took = int(1e9 * chance.uniform(0.6, 2.4))
                asked = {
                    "id": f"c{n}",
                    "type": "function",
                    "function": {"name": TOOLS[n], "arguments": f'{{"path": "src/{module}.py"}}'},
                }
                call = step.llm_call(
                    model="qwen3-8b",
                    messages=history,
                    response={"role": "assistant", "content": said, "reasoning_content": THOUGHT[n], "tool_calls": [asked]},
                    prompt_token_ids=ids,
                    token_ids=answer,
                    logprobs=[-chance.expovariate(2.0) for _ in answer],
                    logprobs_of="sampled",
                    usage={"prompt_tokens": len(ids), "completion_tokens": len(answer)},
                    params={"temperature": 1.0},
                    policy_version=40 + attempt % 2,
                    started=now,
                    duration=took,
                )
                now += took
                if n == 1:
                    cut = next(i for i in range(len(answer)) if by.decode(answer[i:]).startswith(", as"))
                    step.edit(call, author="reviewer").delete(cut, len(answer) - 2, reason="nobody asked for this")
                    answer = answer[:cut] + answer[-2:]
                result = RESULTS[n] if good or n != 2 else None
                step.action(
                    TOOLS[n],
                    {"path": f"src/{module}.py"},
                    result,
                    ok=result is not None,
                    error=None if result is not None else "the tests ran for more than 30 s",
                    llm_call=call,
                    tool_call_id=f"c{n}",
                    started=now,
                    duration=int(1e9 * chance.uniform(0.1, 0.9)),
                )
                now += 1_000_000_000
                told = result or "timed out"
                ids = [*ids, *answer, *by.encode(f"{told}\n").ids]
                history = [*history, {"role": "assistant", "content": said, "tool_calls": [asked]}]
                history = [*history, {"role": "tool", "tool_call_id": f"c{n}", "content": told}]
        run.reward(1.0 if good else 0.0, name="tests", rationale="all tests pass" if good else "a test fails")
        run.reward(round(chance.uniform(0.3, 0.9), 2), name="style", weight=0.2, source="judge", author="qwen3-32b")
        run.label(
            "explains the cause",
            "yes" if good else "no",
            score=0.9 if good else 0.2,
            author="qwen3-32b",
            rationale="The last message names it.",
        )
        run.finish(SAID[-1] if good else None, status="completed" if good else "failed")
    return run.id
