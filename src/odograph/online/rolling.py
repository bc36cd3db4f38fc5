"""One rollout for a trainer: a task is run and recorded, rewarded, and made into exactly one row.

The rule: with `edits="mask"`, all calls of one conversation are one row. Where there are several rows nevertheless (the agent had
several conversations, an adapter changed, another policy for edits), the row is the one that trains the most tokens. Rows are of
the task's own agent; other agents of the run are other policies. There is no row where nothing can be trained: the run failed
before the model answered, or through the environment, or ids or logprobs are missing; the reason is logged.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from ..api import Store, default_store
from ..bulk import for_each, waited
from ..errors import InvalidInput, check_count
from ..log import logger
from ..runtime import Agent, Runners, Task, TaskResponse
from ..runtime.rewarding import RewardFn, check_reward, rewarded
from ..runtime.template import Template
from ..training.plan import Policy
from ..training.sample import Sample
from ..training.samples import samples

__all__ = ["RewardFn", "rollout", "rollouts", "sync_rollouts"]


async def rollout(
    task: Task,
    *,
    base_url: str | None = None,
    model: str | None = None,
    api_key: str | None = None,
    policy_version: str | int | None = None,
    reward: RewardFn | None = None,
    store: Store | None = None,
    edits: Policy = "mask",
    logprobs: bool = True,
    tokenizer: Any = None,
    **settings: Any,
) -> tuple[Sample | None, TaskResponse]:
    """Runs a task as a new trajectory, and returns its row and the response.

    `base_url`, `model`, `api_key`, `policy_version` and `settings` (params, dialect, ...) replace those of the task's `Agent`,
    which is then asked for token ids; other agents are asked as they are. `reward` is a function of the trajectory, sync or
    async; what it gives is recorded. `edits`: as in `odograph.samples` (not `pair`). `logprobs=False` takes rows without
    them. `tokenizer` places edits of text, and makes the prompts of an agent that sends token ids. The row is None where nothing
    can be trained. Raises InvalidInput.
    """
    if edits == "pair":
        raise InvalidInput("a rollout is one row; edits='pair' makes pairs: export to trl-dpo")
    response = await ran(
        task,
        base_url=base_url,
        model=model,
        api_key=api_key,
        policy_version=policy_version,
        reward=reward,
        store=store,
        tokenizer=tokenizer,
        **settings,
    )
    if response.trajectory_id is None:
        logger.warning("no row of task %s: %s", response.id, response.msg)
        return None, response
    template = Template.of(tokenizer if tokenizer is not None else getattr(task.agent, "tokenizer", None))
    by = template.by if template is not None else None
    return _row(response, edits, logprobs, by, getattr(task.agent, "name", None)), response


async def ran(task: Task, *, reward: RewardFn | None = None, store: Store | None = None, **settings: Any) -> TaskResponse:
    """`rollout` without the row, for trainers that make something else of what is recorded."""
    check_reward(reward)
    task = _anew(task, settings)
    where = store or task._store or default_store()
    response: TaskResponse = (await Runners.run_task(task, store=where, progress=False))[task.id]
    if reward is not None and response.trajectory_id is not None:
        await rewarded(response, reward)
    return response


async def rollouts(
    tasks: Iterable[Task], *, max_concurrency: int = 64, **options: Any
) -> list[tuple[Sample | None, TaskResponse]]:
    """`rollout` of many tasks, at most `max_concurrency` at once; in the order of the tasks."""
    given = list(tasks)
    made: dict[int, tuple[Sample | None, TaskResponse]] = {}

    async def one(number: int) -> None:
        made[number] = await rollout(given[number], **options)

    check_count("max_concurrency", max_concurrency)
    await for_each(range(len(given)), one, min(max_concurrency, len(given)))
    return [made[n] for n in range(len(given))]


def sync_rollouts(tasks: Iterable[Task], **options: Any) -> list[tuple[Sample | None, TaskResponse]]:
    """`rollouts` for trainers that are not async."""
    return waited(rollouts(tasks, **options))


def _anew(task: Task, settings: Mapping[str, Any]) -> Task:
    """The task as a run of its own, whose agent asks the trainer's model. A trainer gives the same task many times."""
    changes = {k: v for k, v in settings.items() if v is not None}
    made = copy.copy(task)
    made._session = None
    made.group = task.group if task.group is not None else task.id
    made.id = f"{task.id}-{uuid.uuid4().hex[:12]}"
    if isinstance(task.agent, Agent):
        made.agent = task.agent.replace(**{"tokens": True, **changes})
    elif changes:
        raise InvalidInput(
            f"{task.agent!r} is no Agent: {', '.join(changes)} can't be given to it; make it ask the endpoint itself"
        )
    return made


def _row(response: TaskResponse, edits: Policy, logprobs: bool, tokenizer: Any, agent: str | None) -> Sample | None:
    made = samples([response.recorded], edits=edits, logprobs=logprobs, tokenizer=tokenizer, agent=agent)
    rows = [row for row in made if isinstance(row, Sample)]
    if not rows:
        report = made.report
        why = {**report.left_out, **report.calls_left_out, **report.dropped} or {str(response.msg or "no call with token ids"): 1}
        logger.warning("no row of trajectory %s: %s", str(response.trajectory_id)[-8:], "; ".join(why))
        return None
    return max(rows, key=lambda row: row.trained)
