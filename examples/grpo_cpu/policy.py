"""The policy that is trained: a tokenizer of a few words, a tiny random model, and how a conversation becomes tokens."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, END = "<pad>", "<end>"
ROLES = {"system": "<system>", "user": "<user>", "assistant": "<assistant>", "tool": "<tool>"}
COLOURS = ["red", "green", "blue", "white"]
#: The word that uses the tool.
LOOK = "look"
WORDS = [PAD, END, *ROLES.values(), *COLOURS, LOOK, "which", "colour"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word: text that the model wrote becomes the same ids again, so that prompts extend what was sampled."""
    words = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token=PAD))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token=PAD, eos_token=END, unk_token=PAD)


def make_model(seed: int = 0) -> LlamaForCausalLM:
    """A random model, 2 layers of 48, in fp32, without dropout. Its weights are so large that it is never indifferent: a token
    that is scored in the wrong place shows."""
    torch.manual_seed(seed)
    shape = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }
    ids = {"pad_token_id": WORDS.index(PAD), "bos_token_id": None, "eos_token_id": WORDS.index(END)}
    config = LlamaConfig(vocab_size=len(WORDS), max_position_embeddings=256, initializer_range=0.2, **ids, **shape)
    return LlamaForCausalLM(config).eval()


def prompt_words(messages: list[dict[str, Any]]) -> list[str]:
    """The chat template: each message is its role, its words and an end; then it is the assistant's turn."""
    words: list[str] = []
    for message in messages:
        words.append(ROLES[message["role"]])
        words += [call["function"]["name"] for call in message.get("tool_calls") or ()]
        words += (message.get("content") or "").split()
        words.append(END)
    return [*words, ROLES["assistant"]]


def answer_of(words: list[str]) -> tuple[str, bool]:
    """What sampled words say: the text, and whether the tool is asked for (the first word is `look`)."""
    said = words[:-1] if words and words[-1] == END else words
    asks = bool(said) and said[0] == LOOK
    return " ".join(said[1:] if asks else said), asks
