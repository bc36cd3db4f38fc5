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
from .rolling import RewardFn, ran
from .tasks import Makes, task_of


def harness(makes: Makes, *, reward: RewardFn | None = None, store: Store | None = None, **settings: Any) -> type[Any]:
    """The class of a harness whose program is an agent in this process.

    `makes`: an `Agent` (which gets the task's prompt, and its system prompt behind the agent's own), or a function from the
    task's data to a `Task`. The task's tool servers become tools of an `Agent`. Raises InvalidInput where verifiers is not
    installed.
    """
    try:
        from verifiers.v1.harness import Harness
        from verifiers.v1.runtimes.base import ProgramResult
    except ImportError:
        raise InvalidInput("a harness needs verifiers itself, which is not installed here") from None

    class OdographHarness(Harness):  # type: ignore[misc]
        APPENDS_SYSTEM_PROMPT = True
        SUPPORTS_MCP = True
        SUPPORTS_RESUME = True
        EXECUTES_CODE = False  # the agent's tools run in this process, not in the task's runtime
        NEEDS_CONTAINER = False

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
            whole = hasattr(makes, "step")
            task = task_of(makes, _prompt(data) if whole else data)
            if isinstance(task.agent, Agent):
                system = [task.agent.system_prompt, getattr(data, "system_prompt", None) if whole else None]
                servers = [MCPServer(url=url) for url in mcp_urls.values()]
                task.agent = task.agent.replace(
                    tools=[*task.agent.tools, *servers], system_prompt="\n\n".join(filter(None, system)) or None
                )
            model = getattr(ctx, "model", None)
            options: dict[str, Any] = {"model": model, **settings} if isinstance(model, str) else settings
            response = await ran(task, base_url=endpoint, api_key=secret, reward=reward, store=store, **options)
            # an answer that was cut is the model's: verifiers scores it, where an exit code would make it a failure of the run
            done = response.status in ("completed", "truncated")
            return ProgramResult(0 if done else 1, str(response.answer or ""), str(response.msg or ""))

    return OdographHarness


def _prompt(data: Any) -> Any:
    prompt = getattr(data, "prompt", data)
    if isinstance(prompt, list):
        return [m if isinstance(m, dict) else m.model_dump(exclude_none=True) for m in prompt]
    return prompt
