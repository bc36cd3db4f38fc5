"""A policy of the tests' own, its tokenizer and chat template, and rollouts of it in a store, remembered token by token.

What was sampled is kept apart from the store, as `Said`: what a consumer reads of an export is compared with that.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import odograph

_MARKS = ["<|pad|>", "<|start|>", "<|end|>"]
# ART marks the place of a choice with the highest id, which has to be a token of its own
_SPARE = "<|spare|>"
_TEMPLATE = (
    "{% if tools %}<|start|>tools\n{{ tools | length }} {{ tools[0].function.name }}<|end|>\n{% endif %}"
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}]{% endfor %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds.",
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
        },
    }
]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and a token for "yes": so that a text has more than one way to be tokens."""
    vocabulary = {mark: n for n, mark in enumerate(_MARKS)}
    for letter in [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ye", "yes", _SPARE]:
        vocabulary[letter] = len(vocabulary)
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[("y", "e"), ("ye", "s")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([*_MARKS, _SPARE])
    fast = PreTrainedTokenizerFast(tokenizer_object=made, pad_token=_MARKS[0], eos_token=_MARKS[2])
    fast.chat_template = _TEMPLATE
    return fast


END = 2


def model(seed: int = 0) -> LlamaForCausalLM:
    """A random one, small, in fp32, without dropout."""
    torch.manual_seed(seed)
    ids: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": END, "bos_token_id": None}
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    size = len(tokenizer())
    return LlamaForCausalLM(LlamaConfig(vocab_size=size, max_position_embeddings=512, initializer_range=0.2, **shape, **ids))


def rendered(messages: list[dict[str, Any]], generate: bool = False) -> list[int]:
    """Messages as the ids that the model is sent."""
    return list(tokenizer().apply_chat_template(messages, tools=TOOLS, add_generation_prompt=generate, return_dict=False))


@dataclass
class Said:
    """One response: what the model saw, what it sampled, and what stands in its place once the agent edited it."""

    messages: list[dict[str, Any]]
    prompt: list[int]
    ids: list[int]
    logprobs: list[float]
    stands: list[int]
    message: dict[str, Any]


@dataclass
class Rollout:
    """A recorded trajectory."""

    id: str
    group: str
    reward: float
    said: list[Said] = field(default_factory=list)

    @property
    def rows(self) -> list[tuple[list[int], list[int], list[float]]]:
        """Ids, mask and logprobs (0.0 where the mask is 0) of what is trained with edits as part of the environment: calls whose
        prompts extend all that was sampled before are one row."""
        out: list[tuple[list[int], list[int], list[float]]] = []
        for said in self.said:
            ids, mask, logprobs = out.pop() if out and said.prompt[: len(out[-1][0])] == out[-1][0] else ([], [], [])
            fill = len(said.prompt) - len(ids)
            out.append(
                (
                    said.prompt + said.ids,
                    [*mask, *[0] * fill, *[1] * len(said.ids)],
                    [*logprobs, *[0.0] * fill, *said.logprobs],
                )
            )
        return out


def _asks(k: int) -> dict[str, Any]:
    function = {"name": "add", "arguments": f'{{"a": {k}, "b": 1}}'}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": f"c{k}", "type": "function", "function": function}]}


def record(store: odograph.Store, groups: int = 2, size: int = 3, seed: int = 7) -> list[Rollout]:
    """Groups of conversations of three calls: a tool is asked for, an answer is given, a question about it is answered.

    The second of each group has its answer edited (a preferred edit) before the model sees it again. The last answer is sampled
    in tokens that its text would not give. Logprobs are multiples of 1/1024, which every float holds.
    """
    chance = random.Random(seed)
    out = []
    for g in range(groups):
        for k in range(size):
            out.append(_rollout(store, chance, f"g{g}", k, reward=((k + g) % size) / 2))
    return out


def _rollout(store: odograph.Store, chance: random.Random, group: str, k: int, reward: float) -> Rollout:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "be good"},
        {"role": "user", "content": f"{group}: add one"},
    ]
    letters = {c: tokenizer().convert_tokens_to_ids(c) for c in "yes"}
    with store.record(
        task=messages[1]["content"], agent="solver", model="tiny", group=group, policy_version=3, metadata={"k": k}
    ) as run:
        rollout = Rollout(run.id, group, reward)

        def say(step: Any, message: dict[str, Any], ids: list[int] | None = None) -> tuple[Any, Said]:
            prompt = rendered(messages, generate=True)
            if ids is None:
                ids = rendered([*messages, message])[len(prompt) :]
                ids = ids[: ids.index(END) + 1]
            logprobs = [-chance.randrange(1, 3000) / 1024 for _ in ids]
            body = {
                "choices": [
                    {"index": 0, "message": message, "finish_reason": "tool_calls" if message.get("tool_calls") else "stop"}
                ]
            }
            call = step.llm_call(
                model="tiny",
                messages=messages,
                response=body,
                tools=TOOLS,
                params={"temperature": 1.0},
                prompt_token_ids=prompt,
                token_ids=ids,
                logprobs=logprobs,
            )
            rollout.said.append(Said(messages, prompt, ids, logprobs, ids, message))
            return call, rollout.said[-1]

        with run.step() as step:
            call, said = say(step, _asks(k))
            step.action("add", {"a": k, "b": 1}, k + 1, ok=True, llm_call=call, tool_call_id=f"c{k}")
        messages = [*messages, said.message, {"role": "tool", "tool_call_id": f"c{k}", "content": str(k + 1)}]
        with run.step() as step:
            answer = {"role": "assistant", "content": f"well, it is {k + 1}"}
            call, said = say(step, answer)
            if k == 1:
                step.edit(call).delete(0, len("well, "), preferred=True, reason="to the point", author="agent")
                said.stands = said.ids[len("well, ") :]
                answer = {"role": "assistant", "content": f"it is {k + 1}"}
        messages = [*messages, answer, {"role": "user", "content": "sure?"}]
        with run.step() as step:
            _, said = say(step, {"role": "assistant", "content": "yes"}, [letters["y"], letters["e"], letters["s"], END])
            assert tokenizer().decode(said.ids[:-1]) == "yes" and tokenizer().encode("yes") != said.ids[:-1]
        run.reward(reward, name="right")
        run.finish("yes")
    return rollout
