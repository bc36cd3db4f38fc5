"""`Judge`: asks a model many questions, each answered once and for all. Knows prompts and answers, no trajectory and no store."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from .. import dialects
from ..bulk import for_each, rarely_collected
from ..codec import content_hash, encode, loads_or_raw
from ..errors import InvalidInput, check_count, check_seconds
from ..log import logger
from ..redact import Redactor
from ..store.settings import redactor_in
from .answer import Answer, Status, answer_in, estimate, from_cache, messages_of, sendable
from .answers import Answers, answers_in, clean
from .batches import Batches, provider_of
from .budget import Budget, OverBudget
from .endpoint import Endpoint, Unanswered
from .parsing import Shape, shape


class _Batched:
    """What a batch endpoint did: the questions that it answered just now, and what is wrong with others."""

    def __init__(self) -> None:
        self.fresh: set[str] = set()
        self.wrong: dict[str, Unanswered | OverBudget] = {}


class _Here:
    """What belongs to one event loop."""

    def __init__(self, at_once: int) -> None:
        self.slots = asyncio.Semaphore(at_once)
        self.asking: dict[str, asyncio.Lock] = {}


class Judge:
    """A model behind an endpoint (OpenAI-compatible by default, others by `dialect`) that answers questions with checked values.

    At most `max_concurrency` requests per event loop are in progress at any time. 429, 5xx, timeouts and broken connections are
    retried with backoff, `max_retries` times. An answer that can't be read or is not valid is asked for again, `max_asks` times
    in all. Each answer is written to the folder `journal` before it is parsed; an answer in the journal is not asked for again.
    The default folder is `judge` in the store that the judge works for (`ruler(store)`, `odograph judge`). A judge without a
    store keeps its answers in memory.

    `params` go into each request (temperature, max_tokens, ...). If the endpoint rejects some of these fields, Odograph
    retries the request without the fields, and warns once. After a wrong key, or without money left, the judge asks no more.

    `context`: the longest prompt in tokens (estimated, a token per three bytes); longer prompts are not sent. `prices`: per
    million tokens of prompts and of answers. `timeout`: seconds per attempt. `api_key`: default $OPENAI_API_KEY (or
    $ANTHROPIC_API_KEY). `batch`: asks through the provider's batch endpoint, which takes up to a day and costs half (state these
    prices in `prices`); `batch_poll`: seconds between two looks at a job. Raises InvalidInput.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        dialect: str = "openai.chat",
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        max_concurrency: int = 8,
        max_retries: int = 4,
        max_asks: int = 3,
        timeout: float = 300.0,
        backoff: float = 0.5,
        context: int | None = None,
        budget: Budget | None = None,
        prices: tuple[float, float] | None = None,
        journal: str | Path | None = None,
        batch: bool = False,
        batch_poll: float = 30.0,
    ) -> None:
        if not isinstance(model, str) or not model:
            raise InvalidInput(f"a judge needs the name of its model, not {model!r}")
        self._dialect = dialects.spoken(dialect)
        for name, value, least in (
            ("max_concurrency", max_concurrency, 1),
            ("max_asks", max_asks, 1),
            ("max_retries", max_retries, 0),
            ("context", context, 1),
        ):
            if value is not None:
                check_count(name, value, least)
        check_seconds("timeout", timeout)
        check_seconds("batch_poll", batch_poll)
        if prices is not None and not (
            isinstance(prices, (tuple, list)) and len(prices) == 2 and all(isinstance(p, (int, float)) and p >= 0 for p in prices)
        ):
            raise InvalidInput(f"prices are two numbers, of a million tokens of prompts and of answers, not {prices!r}")
        if params is not None and not isinstance(params, dict):
            raise InvalidInput(f"params is a dict of request fields, not {params!r:.100}")
        try:
            json.dumps(params, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"params go into requests, as JSON: {error}") from None
        if params and params.get("stream"):  # parts of an answer are not what the journal keeps
            raise InvalidInput("a judge's answers are not streamed; leave stream out of params")
        self.budget: Budget = budget or Budget()
        if self.budget.limits["cost"] is not None and prices is None:
            raise InvalidInput("a budget of cost needs prices=, of a million tokens of prompts and of answers")
        self.model = model
        self.params: dict[str, Any] = dict(params or {})
        self.context = context
        self.max_concurrency = max_concurrency
        self.max_asks = max_asks
        self.prices = prices
        self._endpoint = Endpoint(
            dialect=self._dialect.NAME,
            model=model,
            base_url=base_url,
            api_key=api_key,
            headers=headers or {},
            timeout=timeout,
            max_retries=max_retries,
            backoff=backoff,
            recorded=False,
        )
        if batch:
            provider_of(self._endpoint)
        self.batch = batch
        self._batch_poll = batch_poll
        self._batches: Batches | None = None
        self._journal = None if journal is None else Path(journal)
        self._answers: Answers | None = None
        self._redactor: Redactor | None = None
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Here] = WeakKeyDictionary()
        #: What was learned of the endpoint, shared by copies: what it takes, why it answers nothing, and how long answers get.
        self._learned: dict[str, Any] = {
            "schema": True, "refused": set(), "renamed": False, "stopped": None, "longest": 0, "cached": 0,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Judge {self.model}>"

    @property
    def dialect(self) -> str:
        """The name of the dialect that it asks in."""
        return self._dialect.NAME

    @property
    def cached(self) -> int:
        """The number of questions that the journal answered."""
        return int(self._learned["cached"])

    def working_for(self, folder: Path, redactor: Redactor | None = None) -> Judge:
        """This judge with its journal in a folder of a store, unless it was given one: same budget, same bounds.

        Its answers are kept as the store redacts; `redactor`: of a store that has not written down yet how. Raises OdographError
        where nobody knows.
        """
        other = copy.copy(self)
        if self._journal is None:
            other._journal, other._batches = folder, None
        other._answers, other._redactor = None, redactor or self._redactor or redactor_in(folder.parent)
        return other

    def shared_by(self, count: int) -> Judge:
        """This judge with a share of its requests at once, one at least, for one of several processes."""
        other = copy.copy(self)
        other.max_concurrency = max(1, self.max_concurrency // count)
        return other

    def catch_up(self) -> None:
        """Learns of the answers that other processes got since."""
        self._opened().catch_up()

    def __copy__(self) -> Judge:
        """A judge with the same budget, bounds and journal."""
        other = object.__new__(Judge)
        other.__dict__.update(self.__dict__)
        return other

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; its journal is opened anew there."""
        state = self.__dict__ | {"_answers": None, "_batches": None, "_dialect": self._dialect.NAME}
        del state["_loops"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _dialect=dialects.spoken(state["_dialect"]), _loops=WeakKeyDictionary())

    async def ask(
        self,
        prompts: Iterable[str | list[dict[str, Any]]],
        schema: Any = None,
        *,
        check: Callable[[Any], Any] | None = None,
        parse: Callable[[str], Any] | None = None,
        repeat: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """Returns the answers to prompts (texts, or chat-shaped messages of text), in order. A prompt that fails costs no other
        prompt.

        `schema`: a JSON schema of an object, or a type that msgspec knows, into which values are converted; without a schema,
        the value is the text. `check` takes a value and returns the value to use, or raises InvalidInput; the judge is then
        asked again, with the reason. `parse` reads a complete text in place of the schema's reader, and raises InvalidInput in
        the same way. `repeat`: the number of the repetition; each repetition has its own answers. `progress(done)` reports the
        progress.

        Raises MissingExtra, StoreError if the journal can't be written, TypeError.
        """
        wanted = None if schema is None else shape(schema)
        todo = [(n, messages_of(p)) for n, p in enumerate(prompts)]
        found: list[Answer | None] = [None] * len(todo)
        done = 0
        answers = self._opened()

        async def answer(one: tuple[int, list[dict[str, Any]]]) -> None:
            nonlocal done
            number, messages = one
            found[number] = await self._answer(messages, wanted, (parse, check), repeat, batched)
            done += 1
            if progress is not None:
                progress(done)

        try:
            batched = await self._batched([messages for _, messages in todo], wanted, repeat) if self.batch else None
            with rarely_collected(len(todo)):
                await for_each(todo, answer, min(self.max_concurrency, len(todo)))
        finally:
            await asyncio.to_thread(answers.sync)
        return [a for a in found if a is not None]

    def estimate(self, prompts: Iterable[str | list[dict[str, Any]]], schema: Any = None, *, repeat: int = 0) -> dict[str, float]:
        """Returns the expected cost of asking each prompt once, `{"calls", "tokens", "cost"}`. Answers in the journal cost
        nothing.

        The estimate counts as `Budget` does: prompts a token per three bytes, answers `max_tokens`, else the longest answer so
        far.
        """
        wanted = None if schema is None else shape(schema)
        answers, total = self._opened(), {"calls": 0.0, "tokens": 0.0, "cost": 0.0}
        for messages in map(messages_of, prompts):
            if answers.of(self._key(messages, wanted, (repeat, 0))):
                continue
            body = self._request(messages, wanted.schema if wanted else None)
            read, wrote = estimate(body), self._longest(body)
            if self.context is None or read <= self.context:
                for name, more in (("calls", 1), ("tokens", read + wrote), ("cost", self._price(read, wrote))):
                    total[name] += more
        return total

    def _opened(self) -> Answers:
        if self._answers is None:
            redactor = self._redactor
            if redactor is None and self._journal is not None:  # its folder may be that of a store that redacts
                redactor = redactor_in(self._journal.parent)
            self._answers = answers_in(self._journal, redactor)
        return self._answers

    def _key(self, messages: list[dict[str, Any]], wanted: Shape | None, which: tuple[int, int]) -> str:
        return content_hash([self._dialect.NAME, self.model, self.params, messages, wanted.schema if wanted else None, *which])

    def _request(self, messages: list[dict[str, Any]], schema: dict[str, Any] | None) -> dict[str, Any]:
        first = messages[0] if messages[0]["role"] == "system" else None
        history = self._dialect.history(messages[1:] if first else messages)
        system = first["content"] if first else None
        return self._dialect.request(self.model, system, history, [], self._params, schema)

    def _longest(self, body: dict[str, Any]) -> int:
        """Tokens that an answer may take: the limit that the request sets, else the longest answer so far."""
        limits = [v for n in ("max_tokens", "max_completion_tokens", "max_output_tokens") if type(v := body.get(n)) is int]
        return limits[0] if limits else int(self._learned["longest"])

    # --- by a batch endpoint --------------------------------------------------------------------------------------------

    async def _batched(self, prompts: list[list[dict[str, Any]]], wanted: Shape | None, repeat: int) -> _Batched:
        """Gets prompts answered by jobs, into the journal."""
        answers, schema = self._opened(), wanted.schema if wanted else None
        if self._batches is None:
            self._batches = Batches(self._journal, self._endpoint, self._batch_poll)
        self._endpoint.check_key()
        asked = {self._key(messages, wanted, (repeat, 0)): messages for messages in prompts}

        def answered(key: str) -> bool:
            return any(self._dialect.is_response(loads_or_raw(raw)) for raw in answers.of(key))

        waiting = [key for key in asked if not answered(key)]
        found, held = _Batched(), {}

        def request(key: str) -> dict[str, Any] | None:
            body = self._request(asked[key], schema)
            size, most = estimate(body), self._longest(body)
            if self.context is not None and size > self.context:
                found.wrong[key] = Unanswered(f"a prompt of about {size} tokens, for a context of {self.context}", 413)
                return None
            costs = {"calls": 1.0, "tokens": float(size + most), "cost": self._price(size, most)}
            try:
                self.budget.take(**costs)
            except OverBudget as error:
                found.wrong[key] = error
                return None
            held[key] = (costs, size, most)
            return body

        def pay(key: str, body: Any) -> None:
            costs, size, most = held.pop(key)
            stated = self._dialect.stated(body)
            usage = self._dialect.usage(stated)
            read = size if usage.prompt is None else usage.prompt
            wrote = most if usage.completion is None else usage.completion
            self._learned["longest"] = max(self._learned["longest"], wrote)
            self.budget.pay(costs, calls=1, tokens=read + wrote, cost=self._cost(stated, read, wrote))

        def keep(key: str, body: Any) -> None:
            if not answered(key):  # else another waited for the same job
                answers.put(key, self.model, encode(body))
            if not self._dialect.is_response(body):
                found.wrong[key] = Unanswered(f"the batch's answer is none of {self._dialect.NAME}: {str(body)[:200]}", 502)
            elif key in held:
                pay(key, body)
                found.fresh.add(key)

        try:
            wrong = await self._batches.answers(waiting, request, keep) if waiting else {}
        except Unanswered as error:
            wrong = dict.fromkeys((k for k in waiting if k not in found.wrong and k not in found.fresh), str(error))
        finally:
            for costs, _, _ in held.values():  # what was not answered costs nothing
                self.budget.pay(costs)
        found.wrong |= {key: Unanswered(f"the batch did not answer: {why}", 500) for key, why in wrong.items()}
        return found

    # --- one prompt -------------------------------------------------------------------------------------------------------

    async def _answer(
        self,
        messages: list[dict[str, Any]],
        wanted: Shape | None,
        how: tuple[Any, Any],
        repeat: int,
        batched: _Batched | None,
    ) -> Answer:
        """Asks until an answer is valid. Those of the journal are gone through first, and don't count."""
        asked = number = 0
        now, last = messages, Answer(status="parse_error", model=self.model)
        paid: dict[str, Any] = {}
        while asked < self.max_asks:
            about: dict[str, Any] = {"model": self.model, "repeat": repeat, **paid}
            try:
                body, cached = await self._body(now, wanted, (repeat, number), batched)
            except OverBudget as error:
                return Answer(status="over_budget", error=str(error), **about)
            except Unanswered as error:
                status: Status = "over_context" if error.is_too_long else "http_error"
                return Answer(status=status, error=clean(str(error), self._redactor), **about)
            asked, number = asked + (not cached), number + 1
            for name, more in self._stated(body, now).items():
                paid[name] = about[name] = paid.get(name, 0) + more
            last = answer_in(body, self._dialect, wanted, how, {**about, "cached": cached})
            if last.status != "parse_error":
                return last
            said = sendable((last.text or "").strip()[:4000]) or "(nothing)"
            why = sendable(str(last.error))
            again = f"This answer can't be used: {why}. Answer again, in the form that was asked for and nothing else."
            now = [*messages, {"role": "assistant", "content": said}, {"role": "user", "content": again}]
        return last

    def _stated(self, body: Any, messages: list[dict[str, Any]]) -> dict[str, float]:
        """What an answer took, as its body states it; a price where there are prices."""
        stated = self._dialect.stated(body)
        usage = self._dialect.usage(stated)
        read, wrote = usage.prompt or estimate(messages), usage.completion or 0
        return {
            "cost": self._cost(stated, read, wrote),
            "prompt_tokens": read,
            "completion_tokens": wrote,
            "cached_tokens": from_cache(stated),
        }

    def _cost(self, stated: Any, read: int, wrote: int) -> float:
        cost: Any = stated.get("cost") if isinstance(stated, dict) else None  # as some routers state it
        return float(cost) if type(cost) in (int, float) and cost >= 0 else self._price(read, wrote)

    async def _body(
        self, messages: list[dict[str, Any]], wanted: Shape | None, which: tuple[int, int], batched: _Batched | None
    ) -> tuple[Any, bool]:
        """The body that answers, and whether it was in the journal."""
        answers = self._opened()
        schema = wanted.schema if wanted else None
        key = self._key(messages, wanted, which)
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop) or self._loops.setdefault(loop, _Here(self.max_concurrency))
        lock = here.asking.setdefault(key, asyncio.Lock())
        async with lock:  # the same question at the same time is asked once
            try:
                for raw in answers.of(key):
                    body = loads_or_raw(raw)
                    if self._dialect.is_response(body):
                        is_new = batched is not None and key in batched.fresh
                        self._learned["cached"] += not is_new
                        return body, not is_new
                if batched is not None and key in batched.wrong:
                    raise batched.wrong[key]
                async with here.slots:
                    return await self._asked(answers, key, messages, schema), False
            finally:
                here.asking.pop(key, None)

    async def _asked(self, answers: Answers, key: str, messages: list[dict[str, Any]], schema: dict[str, Any] | None) -> Any:
        """Asks the endpoint; without the schema where it does not take one, which the prompt describes in any case."""
        if schema is None or not self._learned["schema"]:
            return await self._sent(answers, key, messages, None)
        try:
            return await self._sent(answers, key, messages, schema)
        except Unanswered as error:
            if error.status not in (400, 415, 422, 501) or error.is_too_long or error.is_for_all:
                raise
            refusal = error
        try:
            found = await self._sent(answers, key, messages, None)
        except Unanswered:
            raise refusal from None
        self._learned["schema"] = False
        return found

    async def _sent(self, answers: Answers, key: str, messages: list[dict[str, Any]], schema: dict[str, Any] | None) -> Any:
        """Asks the endpoint; again without the parameters that it does not take."""
        while True:
            if self._learned["stopped"] is not None:
                raise Unanswered(*self._learned["stopped"])
            params = list(self._params)
            body = self._request(messages, schema)
            size = estimate(body)
            if self.context is not None and size > self.context:
                raise Unanswered(f"a prompt of about {size} tokens, for a context of {self.context}", 413)
            try:
                return await self._paid(answers, key, body, size)
            except Unanswered as error:
                if error.is_for_all:
                    self._learned["stopped"] = (str(error), error.status)
                refused = error.refused(params)
                if not refused:
                    raise
                self._leave_out(refused, clean(str(error), self._redactor))

    @property
    def _params(self) -> dict[str, Any]:
        """`params` as the endpoint takes them."""
        taken = {n: v for n, v in self.params.items() if n not in self._learned["refused"]}
        if self._learned["renamed"] and "max_completion_tokens" not in self._learned["refused"]:
            taken["max_completion_tokens"] = self.params["max_tokens"]
        return taken

    def _leave_out(self, refused: list[str], said: str) -> None:
        learned = self._learned
        new = [name for name in refused if name not in learned["refused"]]
        learned["refused"].update(new)
        learned["renamed"] |= "max_tokens" in new and "max_completion_tokens" in said
        if new:
            logger.warning("the model %s does not take %s: Odograph asks without (%s)", self.model, ", ".join(new), said)

    async def _paid(self, answers: Answers, key: str, body: dict[str, Any], size: int) -> Any:
        self._endpoint.check_key()
        budget, most = self.budget, self._longest(body)
        held = {"tokens": float(size + most), "cost": self._price(size, most)}
        budget.take(**held)
        sent = 0

        def before() -> None:
            nonlocal sent
            budget.take(calls=1)
            budget.pay({"calls": 1}, calls=1)
            sent += 1

        try:
            found = await self._endpoint.ask(body, before=before, on_body=lambda raw: answers.put(key, self.model, raw))
        except BaseException:
            budget.pay(held)
            raise
        stated = self._dialect.stated(found)
        usage = self._dialect.usage(stated)
        read = size if usage.prompt is None else usage.prompt
        wrote = most if usage.completion is None else usage.completion
        self._learned["longest"] = max(self._learned["longest"], wrote)
        budget.pay(held, tokens=read + wrote, cost=self._cost(stated, read, wrote))
        return clean(found, self._redactor)  # who asks again is told the same from the journal

    def _price(self, read: int, wrote: int) -> float:
        return 0.0 if self.prices is None else (read * self.prices[0] + wrote * self.prices[1]) / 1e6
