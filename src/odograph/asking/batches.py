"""Asking through a provider's batch endpoint, at half the price: jobs of many requests, which outlive the process.

A job is a file in the folder `batches` of the judge's journal, written before anything is sent. A process that is killed leaves
the job to the next one: a job that was sent is waited for, and one that was being sent is looked for at the provider by its token.
OpenAI: https://platform.openai.com/docs/guides/batch. Anthropic: https://docs.anthropic.com/en/docs/build-with-claude/batch-processing
"""  # noqa: E501

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from .. import dialects
from ..codec import encode_finite, loads_or_raw, new_id
from ..errors import InvalidInput, StoreError
from .endpoint import Endpoint, Unanswered

_MOST = 10_000  # requests of a job: OpenAI takes 50,000, Anthropic 100,000
_BYTES = 80 << 20  # of a job: OpenAI takes 200 MB, Anthropic 256
_EARLY = 120  # seconds that a provider's clock may be behind
_ENDED = ("completed", "failed", "expired", "cancelled")


class Job(msgspec.Struct, kw_only=True):
    """A batch: which questions it holds, and how far it is. `id`: the provider's; None while it is being sent."""

    token: str
    dialect: str
    url: str
    keys: list[str]
    time: float
    id: str | None = None
    state: Literal["sending", "sent", "done"] = "sending"


class Provider:
    """What a batch endpoint is asked: to take requests, how far a job is, and what came of it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    async def send(self, token: str, requests: dict[str, dict[str, Any]]) -> str:
        """Makes a job, and returns its id. Raises Unanswered."""
        raise NotImplementedError

    async def find(self, job: Job) -> str | None:
        """The id of a job that was being sent when its process died, if the provider has it."""
        raise NotImplementedError

    async def results(self, id: str) -> dict[str, tuple[Any, str | None]] | None:
        """Of each question: the body that answers, or what is wrong. None while the job is under way. Raises Unanswered."""
        raise NotImplementedError

    async def _get(self, path: str) -> Any:
        return loads_or_raw(await self.endpoint.request("GET", path))


class OpenAI(Provider):
    """Files and batches of OpenAI, and of those who speak like it."""

    async def send(self, token: str, requests: dict[str, dict[str, Any]]) -> str:
        path = ""
        lines = []
        for key, body in requests.items():
            path, sent = dialects.find(self.endpoint.dialect).outgoing(body, self.endpoint.model)
            lines.append(encode_finite({"custom_id": key, "method": "POST", "url": path, "body": sent}))
        data, kind = _form({"purpose": "batch"}, f"odograph-{token}.jsonl", b"\n".join(lines) + b"\n")
        file = _field(loads_or_raw(await self.endpoint.request("POST", "/v1/files", data, {"content-type": kind})), "id")
        about = {"input_file_id": file, "endpoint": path, "completion_window": "24h", "metadata": {"odograph": token}}
        # without retries: a job whose answer was lost is there, and is found by its token
        made = await self.endpoint.request("POST", "/v1/batches", encode_finite(about), retry=False)
        return _field(loads_or_raw(made), "id")

    async def find(self, job: Job) -> str | None:
        after = ""
        while True:
            page = await self._get(f"/v1/batches?limit=100{after}")
            found = _items(page)
            for one in found:
                about = one.get("metadata")
                if isinstance(about, dict) and about.get("odograph") == job.token:
                    return _field(one, "id")
            if not found or not page.get("has_more"):
                return None
            after = f"&after={_field(found[-1], 'id')}"

    async def results(self, id: str) -> dict[str, tuple[Any, str | None]] | None:
        job = await self._get(f"/v1/batches/{id}")
        status = job.get("status") if isinstance(job, dict) else None
        if status not in _ENDED:
            return None
        found: dict[str, tuple[Any, str | None]] = {}
        for name in ("output_file_id", "error_file_id"):
            if not isinstance(job.get(name), str):
                continue
            for line in (await self.endpoint.request("GET", f"/v1/files/{job[name]}/content")).splitlines():
                one = loads_or_raw(line)
                if not isinstance(one, dict) or not isinstance(one.get("custom_id"), str):
                    continue
                response, error = one.get("response"), one.get("error")
                body = response.get("body") if isinstance(response, dict) else None
                ok = isinstance(response, dict) and response.get("status_code") == 200 and not error
                _take(found, one["custom_id"], body, None if ok else _said(error or body))
        if status != "completed":
            found.setdefault("", (None, f"the batch {status}: {_said(job.get('errors'))}".removesuffix(": ")))
        return found


class Anthropic(Provider):
    """Message batches of Anthropic. A request's id holds the job's token, by which the job is known again."""

    async def send(self, token: str, requests: dict[str, dict[str, Any]]) -> str:
        dialect = dialects.find(self.endpoint.dialect)
        listed = [
            {"custom_id": f"{key}_{token[-12:]}", "params": dialect.outgoing(body, self.endpoint.model)[1]}
            for key, body in requests.items()
        ]
        made = await self.endpoint.request("POST", "/v1/messages/batches", encode_finite({"requests": listed}), retry=False)
        return _field(loads_or_raw(made), "id")

    async def find(self, job: Job) -> str | None:
        after = ""
        while True:
            page = await self._get(f"/v1/messages/batches?limit=100{after}")
            found = _items(page)
            for one in found:
                counts = one.get("request_counts")
                total = sum(n for n in counts.values() if type(n) is int) if isinstance(counts, dict) else 0
                if total == len(job.keys) and (_seconds(one.get("created_at")) or job.time) >= job.time - _EARLY:
                    id = _field(one, "id")
                    while (results := await self._lines(id)) is None:  # only its results say whose it is
                        await asyncio.sleep(1.0)
                    if any(str(r.get("custom_id")).endswith(f"_{job.token[-12:]}") for r in results):
                        return id
            if not found or not page.get("has_more"):
                return None
            after = f"&after_id={_field(found[-1], 'id')}"

    async def _lines(self, id: str) -> list[dict[str, Any]] | None:
        job = await self._get(f"/v1/messages/batches/{id}")
        if not isinstance(job, dict) or job.get("processing_status") != "ended":
            return None
        lines = (await self.endpoint.request("GET", f"/v1/messages/batches/{id}/results")).splitlines()
        return [one for line in lines if isinstance(one := loads_or_raw(line), dict)]

    async def results(self, id: str) -> dict[str, tuple[Any, str | None]] | None:
        lines = await self._lines(id)
        if lines is None:
            return None
        found: dict[str, tuple[Any, str | None]] = {}
        for one in lines:
            result = one.get("result")
            result = result if isinstance(result, dict) else {}
            ok = result.get("type") == "succeeded"
            key = str(one.get("custom_id")).partition("_")[0]
            _take(found, key, result.get("message"), None if ok else _said(result.get("error") or result.get("type")))
        return found


_PROVIDERS: dict[str, type[Provider]] = {"openai.chat": OpenAI, "openai.responses": OpenAI, "anthropic.messages": Anthropic}


def provider_of(endpoint: Endpoint) -> Provider:
    """The batch endpoint of a dialect. Raises InvalidInput for one that has none."""
    found = _PROVIDERS.get(endpoint.dialect)
    if found is None:
        raise InvalidInput(f"dialect {endpoint.dialect!r} has no batch endpoint; there are: {', '.join(_PROVIDERS)}")
    return found(endpoint)


class Batches:
    """The jobs of a judge's journal. Without a folder they live as long as this object."""

    def __init__(self, folder: Path | None, endpoint: Endpoint, poll: float) -> None:
        self._folder = None if folder is None else folder / "batches"
        self._held: dict[str, Job] = {}
        self._provider = provider_of(endpoint)
        self._place = (endpoint.dialect, endpoint.url(""))
        self._poll = poll

    async def answers(
        self,
        keys: list[str],
        request: Callable[[str], dict[str, Any] | None],
        keep: Callable[[str, Any], None],
    ) -> dict[str, str]:
        """Gets questions answered: those of open jobs by waiting for these, the others by new jobs. Returns what is wrong with
        those that were not answered.

        `request(key)` makes the body of a question that is sent, and returns None for one that is not to be sent. `keep(key,
        body)` is given each answer. Raises Unanswered, StoreError.
        """
        wanted = set(keys)
        jobs: list[Job] = []
        lock = await asyncio.to_thread(self._lock)
        try:
            for job in self._open():
                if job.state == "sending":  # whoever sent it is dead: a living process holds the lock
                    job.id = await self._provider.find(job)
                    if job.id is None:
                        self._forget(job)
                        continue
                    self._write(job, "sent")
                if wanted & set(job.keys):
                    jobs.append(job)
                    wanted -= set(job.keys)
            part: dict[str, dict[str, Any]] = {}
            size = 0
            for key in keys:
                if key not in wanted:
                    continue
                body = request(key)
                if body is None:
                    continue
                more = len(encode_finite(body))
                if part and (len(part) >= _MOST or size + more > _BYTES):
                    jobs.append(await self._sent(part))
                    part, size = {}, 0
                part[key] = body
                size += more
            if part:
                jobs.append(await self._sent(part))
        finally:
            if lock is not None:
                os.close(lock)
        wrong: dict[str, str] = {}
        for job in jobs:
            assert job.id is not None
            try:
                while (found := await self._provider.results(job.id)) is None:
                    await asyncio.sleep(self._poll)
            except Unanswered as gone:
                if gone.status not in (404, 410):
                    raise
                found = {"": (None, f"what came of it is gone at the provider, and is asked for again: {gone}")}
            for key in job.keys:
                body, error = found.get(key, (None, None))
                if body is not None:
                    keep(key, body)
                else:
                    wrong[key] = error or found.get("", (None, None))[1] or "the batch ended without an answer"
            self._write(job, "done")
        return wrong

    async def _sent(self, requests: dict[str, dict[str, Any]]) -> Job:
        dialect, url = self._place
        job = Job(token=new_id(), dialect=dialect, url=url, keys=list(requests), time=time.time())
        self._write(job, "sending")
        try:
            job.id = await self._provider.send(job.token, requests)
        except Unanswered as error:
            if error.status is not None:  # it was refused
                self._forget(job)
                raise
            job.id = await self._provider.find(job)  # the connection broke: it may be there
            if job.id is None:
                self._forget(job)
                raise
        self._write(job, "sent")
        return job

    # --- jobs on disk -------------------------------------------------------------------------------------------------

    def _lock(self) -> int | None:
        """A file that is locked as long as it is open: while it is, this process alone sends jobs."""
        if self._folder is None:
            return None
        import fcntl

        try:
            self._folder.mkdir(0o700, parents=True, exist_ok=True)
            file = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise StoreError(f"the judge's jobs in {str(self._folder)!r} can't be written: {error.strerror}") from error
        return file

    def _open(self) -> list[Job]:
        """The jobs of this endpoint that are not done."""
        if self._folder is None:
            jobs = list(self._held.values())
        else:
            jobs = []
            for path in sorted(self._folder.glob("*.json")):
                try:
                    jobs.append(msgspec.json.decode(path.read_bytes(), type=Job))
                except (OSError, msgspec.DecodeError):
                    continue
        return [job for job in jobs if job.state != "done" and (job.dialect, job.url) == self._place]

    def _write(self, job: Job, state: Literal["sending", "sent", "done"]) -> None:
        job.state = state
        if self._folder is None:
            self._held[job.token] = job
            return
        path = self._folder / f"{job.token}.json"
        try:
            new = path.with_suffix(".new")
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(file, "wb") as out:
                out.write(msgspec.json.encode(job))
                out.flush()
                os.fsync(out.fileno())
            new.replace(path)
        except OSError as error:
            raise StoreError(f"the judge's job {str(path)!r} can't be written: {error.strerror}") from error

    def _forget(self, job: Job) -> None:
        self._held.pop(job.token, None)
        if self._folder is not None:
            (self._folder / f"{job.token}.json").unlink(missing_ok=True)


def _form(fields: dict[str, str], name: str, data: bytes) -> tuple[bytes, str]:
    """A multipart form with a file, and its content type."""
    mark = f"odograph-{new_id()}"
    parts = [f'--{mark}\r\ncontent-disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    head = (
        f'--{mark}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\ncontent-type: application/jsonl\r\n\r\n'
    )
    return b"".join([*parts, head.encode(), data, f"\r\n--{mark}--\r\n".encode()]), f"multipart/form-data; boundary={mark}"


def _field(value: Any, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, str) or not found:
        raise Unanswered(f"the batch endpoint's answer has no {name}: {str(value)[:200]}", 502)
    return found


def _items(page: Any) -> list[dict[str, Any]]:
    data = page.get("data") if isinstance(page, dict) else None
    return [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []


def _take(found: dict[str, tuple[Any, str | None]], key: str, body: Any, error: str | None) -> None:
    """Takes what a line of results says of a question; of several lines, the first that answers."""
    if found.get(key, (None, ""))[1] is not None:
        found[key] = (body if error is None else None, error)


def _said(error: Any) -> str:
    """What is wrong, in words; empty where nothing says it."""
    if error is None:
        return ""
    if isinstance(error, list):
        return "; ".join(map(_said, error[:3]))
    if isinstance(error, dict):
        for name in ("message", "error", "data"):
            if error.get(name):
                return _said(error[name])
    return (error if isinstance(error, str) else encode_finite(error).decode())[:300]


def _seconds(text: Any) -> float | None:
    from ..clock import parse_time

    try:
        found = parse_time(text)
    except (InvalidInput, TypeError, ValueError):
        return None
    return None if found is None else found / 1e9
