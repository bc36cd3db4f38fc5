"""The agent: one action, wrapped for logging. It reads, lets a model decide, and buys."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from typing import Any

import odograph

from .market import Exchange, as_data

SYSTEM = (
    "You are a trading agent on a prediction market. Shares of the right side pay 1 each. "
    'Answer with JSON: {"reasoning": ..., "market": its id, "side": "yes" or "no", "amount": what to invest}.'
)
BALANCE = 100.0


async def use_model(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """A chat completion of an OpenAI-compatible endpoint."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/chat/completions", data, {"content-type": "application/json"})
    return await asyncio.to_thread(lambda: json.loads(urllib.request.urlopen(request, timeout=60).read()))


def trader(exchange: Exchange, url: str, model: str) -> Any:
    """The action BUY_SHARES of an agent on this exchange."""

    async def buy_shares(seed: int) -> dict[str, Any]:
        # 1. The data it reads, and why
        markets = as_data(exchange.markets())
        odograph.log_context("market_data", markets, purpose="Analyze available markets for trading opportunities")
        odograph.log_context("balance_check", {"balance": BALANCE}, purpose="Verify sufficient funds before trading")
        # 2. What the model decides
        user = f"Analyze these markets and decide:\n{json.dumps(markets)}"
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]
        request = {"model": model, "messages": messages, "seed": seed, "temperature": 1.0, "logprobs": True}
        answer = await use_model(url, request)
        decision = json.loads(answer["choices"][0]["message"]["content"])
        usage = answer.get("usage")
        odograph.log_llm_call(request=request, response=decision, thinking=decision["reasoning"], usage=usage)
        # 3. What comes of it: logged by itself, an exception too
        started = time.perf_counter()
        bought = exchange.buy(decision["market"], decision["side"], decision["amount"], BALANCE)
        return {**bought, "execution_ms": (time.perf_counter() - started) * 1000}

    return odograph.wrap_action(buy_shares, name="BUY_SHARES", description="Buy prediction market shares")
