"""examples/art_train with the real ART 0.5.18: its models, groups, tokeniser, packing and backend. Only the service that puts the packed
tensors on a GPU is another: it reads them from the disk, where ART put them for its own."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

art = pytest.importorskip("art")
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import torch  # noqa: E402
from art.local import LocalBackend  # noqa: E402
from art.preprocessing.pack import packed_tensors_from_dir  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402

import odograph  # noqa: E402
from examples.art_train.train import groups_of, main, train  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = (
    "{% for m in messages %}<start>{{ m['role'] }}\n{{ m['content'] or '' }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<start>assistant\n{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte; the last one is spare, as ART puts it in the place of what was sampled."""
    special = ["<pad>", "<start>", "<end>"]
    vocabulary = {token: n for n, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), "<spare>"])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([*special, "<spare>"])
    found = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<end>")
    found.chat_template = TEMPLATE
    return found


class Service:
    """In place of the service that trains on a GPU: keeps what it would train on."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    async def start_openai_server(self, config: Any) -> tuple[str, int]:
        return "127.0.0.1", 9

    async def train(self, packed: Any, config: Any, dev_config: Any, verbose: bool = False) -> Any:
        found = packed_tensors_from_dir(**packed)
        self.steps.append({k: v.clone() for k, v in found.items() if isinstance(v, torch.Tensor)})
        yield {"loss/train": 0.0}


class Backend(LocalBackend):
    """ART's own backend, with that service."""

    service = Service()

    async def _get_service(self, model: Any) -> Any:
        return self.service


def ids(by: PreTrainedTokenizerFast, messages: list[dict[str, str]]) -> list[int]:
    return list(by.encode(by.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)))


def record(
    store: odograph.Store,
    by: PreTrainedTokenizerFast,
    group: str | None,
    answer: str,
    reward: float | None,
    *,
    tokens: bool = True,
) -> None:
    """Two turns, recorded as a backend that gives ids and logprobs has them."""
    with store.record(task="2+2?", agent="solver", model="m", group=group) as run:
        messages: list[dict[str, str]] = [{"role": "user", "content": "2+2?"}]
        for text in (answer, "sure"):
            said = [*by.encode(text), by.eos_token_id]
            exact = {
                "prompt_token_ids": ids(by, messages),
                "token_ids": said,
                "logprobs": [-0.5 - n / 100 for n in range(len(said))],
            }
            with run.step() as step:
                step.llm_call(
                    model="m", messages=list(messages), response=text, params={"temperature": 1.0}, **(exact if tokens else {})
                )
            messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "sure?"}]
        if reward is not None:
            run.reward(reward, name="env")


@pytest.fixture
def filled(store: odograph.Store) -> odograph.Store:
    """Two groups that train, and one of each kind that does not."""
    by = byte_tokenizer()
    for group in ("a", "b"):
        record(store, by, group, "4", 1.0)
        record(store, by, group, "5!", 0.0)
    record(store, by, "a", "no reward", None)
    record(store, by, "alone", "4", 1.0)
    for _ in range(2):
        record(store, by, "same", "4", 0.5)
        record(store, by, "text", "4", 0.5, tokens=False)
    record(store, by, None, "4", 1.0)
    return store


def test_the_example_trains_on_what_was_recorded(filled: odograph.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the trainer: of both groups the sampled tokens, with the recorded logprobs and ART's advantages; nothing of the others."""
    by = byte_tokenizer()
    by.save_pretrained(tmp_path / "model")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))  # ART imports it, and without a key asks nothing of it
    backend = Backend(path=str(tmp_path / "art"))
    results = asyncio.run(train(filled, backend, model=str(tmp_path / "model"), name="n", rate=1e-5, batch=1))
    assert len(results) == len(Backend.service.steps) == 2
    for step in Backend.service.steps:
        mask = step["assistant_mask"].bool()
        assert torch.isfinite(step["logprobs"][mask]).all()
        trained = [by.decode(step["tokens"][row][mask[row]].tolist()) for row in range(mask.shape[0])]
        texts = "".join(trained)
        assert texts.count("4<end>") == texts.count("5!<end>") == 1
        assert texts.count("sure<end>") == 2
        logprobs = step["logprobs"][mask].tolist()
        assert sorted(logprobs) == pytest.approx(sorted([-0.5 - n / 100 for length in (2, 3, 5, 5) for n in range(length)]))
        signs = {round(a, 3) for a in step["advantages"][mask].tolist()}
        assert signs == {1.0, -1.0}
    written = list((tmp_path / "art").rglob("*.parquet"))
    assert len(written) >= 1  # ART's own log of the groups


def test_the_dry_run_is_what_art_does(filled: odograph.Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The groups that `--dry-run` says would train are those that ART's own tokeniser makes anything of, token for token."""
    from art.preprocessing.tokenize import tokenize_trajectory_groups

    by = byte_tokenizer()
    plans = {p.group: p for p in filled.dry_run("art")}
    found = list(groups_of(filled, tmp_path / "o"))
    assert {g.metadata["scenario"] for g in found} == {name for name, p in plans.items() if p.trains} == {"a", "b"}
    for made in found:
        results = list(tokenize_trajectory_groups(by, [made], False, True, False))
        assert sum(sum(r.assistant_mask) for r in results) == plans[made.metadata["scenario"]].tokens
    assert "not trained: same: no variance" in capsys.readouterr().err


def test_without_a_gpu_it_says_so(
    filled: odograph.Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence and exit status 1, before anything is loaded."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["train", "--store", str(filled.root)])
    assert main() == 1
    assert capsys.readouterr().err == "no GPU: ART trains on one; `odograph train --dry-run` shows what would train\n"
