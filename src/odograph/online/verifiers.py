"""verifiers 1 and prime-rl: an agent as a harness.

Source: verifiers 0.4, `verifiers/v1/harness.py`: `launch(ctx, trace, runtime, endpoint, secret, mcp_urls, data)` has every model
call go to `endpoint` with the bearer token `secret`, and gives a `ProgramResult`. The trace is the trainer's record; ours is in
the store.
"""

from __future__ import annotations

from typing import Any

from ..api import Store
from ..errors import InvalidInput
from ..runtime import Agent, MCPServer
from .rolling import RewardFn, rollout
from .tasks import Makes, task_of


def harness(makes: Makes, *, reward: RewardFn | None = None, store: Store | None = None, **settings: Any) -> type[Any]:
    """The class of a harness whose program is an agent in this process.

    `makes`: an `Agent` (which gets the task's prompt), or a function from the task's data to a `Task`. The task's tool servers
    become tools of an `Agent`. Raises InvalidInput where it is not installed.
    """
    try:
        from verifiers.v1.harness import Harness
        from verifiers.v1.runtimes.base import ProgramResult
    except ImportError:
        raise InvalidInput("a harness needs verifiers itself, which is not installed here") from None

    class OdographHarness(Harness):  # type: ignore[misc]
        async def launch(
            self,
            ctx: Any,
            trace: Any,
            runtime: Any,
            endpoint: str,
            secret: str,
            mcp_urls: dict[str, str],
            data: Any,
            **more: Any,
        ) -> Any:
            task = task_of(makes, data if not hasattr(makes, "step") else _prompt(data))
            if mcp_urls and isinstance(task.agent, Agent):
                servers = [MCPServer(url=url) for url in mcp_urls.values()]
                task.agent = task.agent.replace(tools=[*task.agent.tools, *servers])
            model = getattr(ctx, "model", None)
            options: dict[str, Any] = {"model": model, **settings} if isinstance(model, str) else settings
            _, response = await rollout(task, base_url=endpoint, api_key=secret, reward=reward, store=store, **options)
            return ProgramResult(0 if response.success else 1, str(response.answer or ""), str(response.msg or ""))

    return OdographHarness


def _prompt(data: Any) -> Any:
    prompt = getattr(data, "prompt", data)
    if isinstance(prompt, list):
        return [m if isinstance(m, dict) else m.model_dump(exclude_none=True) for m in prompt]
    return prompt
