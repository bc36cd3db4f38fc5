"""TRL: an agent as the `rollout_func` of `GRPOTrainer`, and tools with a reward as its `environment_factory`.

Source: trl 1.16, `trl/trainer/grpo_trainer.py`: a rollout function gives `prompt_ids`, `completion_ids`, `logprobs` and
`env_mask`, one row per prompt; other fields go to the reward functions. An environment has `reset()`, tools as methods, and
`get_reward()`; there the trainer asks the model itself.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from ..api import Store, default_store
from ..capture.values import error_of
from ..errors import MissingExtra
from ..runtime.template import Template
from ..training.formats.tokens import split
from ..training.plan import Policy
from .rolling import RewardFn, sync_rollouts
from .serving import ChatServer, Generated
from .tasks import Makes, task_of

REWARD = "odograph_reward"


def rollout_func(
    makes: Makes,
    *,
    reward: RewardFn | None = None,
    base_url: str | None = None,
    store: Store | None = None,
    max_concurrency: int = 64,
    max_tokens: int = 256,
    edits: Policy = "mask",
    tokenizer: Any = None,
    **settings: Any,
) -> Callable[[list[Any], Any], dict[str, Any]]:
    """A rollout function for `GRPOTrainer(rollout_func=..., reward_funcs=[odograph.online.trl.reward])`.

    `makes`: an `Agent`, or a function from a prompt of the dataset to a `Task`. `base_url`: where the trainer's model is served
    (vLLM). Without it, the model is asked in this process (`model.generate`), behind a server on the loopback, with at most
    `max_tokens` new tokens an answer. `reward`: a function of the trajectory. The policy version is the trainer's step. A prompt
    whose rollout gives no row becomes a row of one token that is not trained, with the reward None.
    """

    def rollouts(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        template = Template.of(tokenizer if tokenizer is not None else trainer.processing_class)
        assert template is not None
        step = int(trainer.state.global_step)
        with ExitStack() as stack:
            url = base_url
            if url is None:
                engine = generating(trainer.accelerator.unwrap_model(trainer.model), template.tokenizer, trainer.args, max_tokens)
                url = stack.enter_context(ChatServer(engine, template)).url
            tasks = [task_of(makes, prompt, id=f"{step}-{n}") for n, prompt in enumerate(_texts(prompts))]
            options: dict[str, Any] = {"base_url": url, "api_key": "none", "policy_version": step, **settings}
            made = sync_rollouts(tasks, reward=reward, store=store, edits=edits, max_concurrency=max_concurrency, **options)
        out: dict[str, list[Any]] = {name: [] for name in ("prompt_ids", "completion_ids", "logprobs", "env_mask", REWARD)}
        for prompt, (row, response) in zip(prompts, made, strict=True):
            parts = split(row) if row is not None else None
            if parts is None:
                messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": str(prompt)}]
                end = template.ended([])[-1:] or [0]
                values: tuple[list[Any], ...] = (template.prompt(messages, []), end, [0.0], [0])
            else:
                values = (parts.prompt_ids, parts.completion_ids, parts.logprobs, parts.mask)
            for name, value in zip(out, values, strict=False):
                out[name].append(value)
            out[REWARD].append(response.recorded.reward if row is not None else None)
        return out

    return rollouts


def reward(completions: list[Any], **fields: Any) -> list[float | None]:
    """A reward function for `GRPOTrainer`: what the rollout earned."""
    return list(fields.get(REWARD) or [None] * len(completions))


def _texts(prompts: list[Any]) -> list[Any]:
    """A conversation of one message of the user as its text: the agent has a system prompt of its own."""
    return [
        p[0]["content"] if isinstance(p, list) and len(p) == 1 and isinstance(p[0].get("content"), str) else p for p in prompts
    ]


def generating(model: Any, tokenizer: Any, args: Any, max_tokens: int) -> Callable[[list[int], dict[str, Any]], Generated]:
    """An engine over a model of transformers in this process: one answer at a time, nothing cut off but by its end."""
    try:
        import torch
    except ImportError:
        raise MissingExtra("asking a model in this process", "train") from None
    alone = threading.Lock()

    def engine(ids: list[int], params: dict[str, Any]) -> Generated:
        temperature = float(params.get("temperature") or args.temperature)
        with alone, torch.no_grad():
            was, _ = model.training, model.eval()
            given = torch.tensor([ids], device=model.device)
            made = model.generate(
                given,
                attention_mask=torch.ones_like(given),
                do_sample=True,
                temperature=temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=int(params.get("max_tokens") or max_tokens),
                pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                return_dict_in_generate=True,
                output_scores=True,
            )
            model.train(was)
        new = made.sequences[0, len(ids) :].tolist()
        logprobs = [float(torch.log_softmax(s[0].float(), -1)[i]) for i, s in zip(new, made.scores, strict=False)]
        ended = bool(new) and new[-1] == tokenizer.eos_token_id
        return Generated(new, logprobs, "stop" if ended else "length")

    return engine


def environment_factory(
    tools: Iterable[Callable[..., Any]],
    *,
    reward: RewardFn | None = None,
    store: Store | None = None,
    agent: str = "environment",
) -> Callable[[], Any]:
    """A factory for `GRPOTrainer(environment_factory=...)`: the tools as methods, each rollout recorded with its tool calls and
    its reward (a function of the trajectory). The trainer asks the model, so the model's calls are not on record."""
    given = list(tools)

    class Environment:
        def __init__(self) -> None:
            self._run: Any = None

        def reset(self, **row: Any) -> str | None:
            """Begins a rollout; `row` is the row of the dataset."""
            self._end()
            where = store or default_store()
            self._run = where.record(
                row.get("prompt"), agent=agent, metadata={"row": {k: v for k, v in row.items() if k != "prompt"}}
            )
            self._trajectory = where, self._run.id
            return None

        def _end(self) -> None:
            if self._run is not None:
                run, self._run = self._run, None
                run.finish()

    def method(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def use(self: Any, *args: Any, **kwargs: Any) -> Any:
            asked = inspect.signature(fn).bind(*args, **kwargs).arguments
            with self._run.step() as step:
                try:
                    result = fn(*args, **kwargs)
                except Exception as error:
                    step.action(fn.__name__, asked, ok=False, error=error_of(error))
                    raise
                step.action(fn.__name__, asked, result)
            return result

        signature = inspect.signature(fn)
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        use.__signature__ = signature.replace(parameters=[own, *signature.parameters.values()])  # type: ignore[attr-defined]
        return use

    for fn in given:
        setattr(Environment, fn.__name__, method(fn))
    if reward is not None:
        judged: Any = reward

        def get_reward(self: Any) -> float:
            """What the rollout earned."""
            self._end()
            where, id = self._trajectory
            value = float(judged(where.trajectory(id)))
            where.append(id).reward(value, getattr(judged, "__name__", "reward"), source="function")
            return value

        Environment.get_reward = get_reward  # type: ignore[attr-defined]
    Environment.__name__ = Environment.__qualname__ = agent
    return Environment
