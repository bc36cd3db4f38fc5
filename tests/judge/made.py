"""Groups to judge, and a judge's answers, as a server gives them."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import odograph
from odograph import Judge
from tests.llm_server import Answer, LLMServer

BLOCK = re.compile(r'<trajectory id="(\d+)">\n(.*?)\n</trajectory>', re.S)


def group(store: odograph.Store, answers: list[str], name: str | None = "g", **more: Any) -> list[str]:
    """A trajectory per answer to the same question; their ids."""
    ids = []
    for text in answers:
        with store.record(task="6*7?", agent="solver", group=name, **more) as run:
            with run.step("6*7?") as step:
                asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "6*7?"}]
                step.llm_call(model="m", messages=asked, response=text)
            run.finish(text)
        ids.append(run.id)
    return ids


def shown(request: dict[str, Any]) -> dict[str, str]:
    """The blocks of a prompt, by id."""
    return dict(BLOCK.findall(request["messages"][1]["content"]))


def scores(request: dict[str, Any], by: Callable[[str], float]) -> list[dict[str, Any]]:
    """What a judge thinks of each block of a prompt."""
    return [{"trajectory_id": id, "explanation": f"because {id}", "score": by(text)} for id, text in shown(request).items()]


def fair(text: str) -> float:
    """1 for the right answer, half for one that is near, else nothing."""
    return 1.0 if '"42"' in text else 0.5 if '"43"' in text else 0.0


def judging(by: Callable[[str], float] = fair) -> LLMServer:
    return LLMServer(lambda request: Answer(text=json.dumps({"scores": scores(request, by)})))


def judge(server: LLMServer, model: str = "j", **more: Any) -> Judge:
    return Judge(model, server.url + "/v1", api_key="x", backoff=0.01, **more)


class Crowd:
    """Counts how many requests are under way at the server."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer], seconds: float) -> None:
        self._answer = answer
        self._seconds = seconds
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def __call__(self, request: dict[str, Any]) -> Answer:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self._seconds)
        with self._lock:
            self._now -= 1
        return self._answer(request)
