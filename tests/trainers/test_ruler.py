"""RULER beside ART's own: the same trajectories, shown and answered in the same form."""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import Any

import pytest

import odograph
from odograph.judge.prompts import SCORES_SCHEMA
from tests.judge.made import BLOCK, fair, group, judge, scores
from tests.llm_server import Answer, LLMServer

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
theirs = pytest.importorskip("art.rewards.ruler")


def parts(request: dict[str, Any]) -> tuple[Any, list[Any], list[str]]:
    """The context, the blocks in an order of their own, and the ids of a prompt."""
    content = request["messages"][1]["content"]
    context = re.search(r"<context>\n(.*?)\n</context>", content, re.S)
    blocks = BLOCK.findall(content)
    shown = sorted((json.loads(b) for _, b in blocks), key=json.dumps)
    return json.loads(context[1]) if context else None, shown, [id for id, _ in blocks]


def requests(store: odograph.Store, answers: list[str]) -> tuple[dict[str, Any], dict[str, Any], list[Any], dict[str, float]]:
    """What we and what ART ask about a group, what ART makes of its answer, and what we do."""
    ids = group(store, answers)
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "6*7?"}]
    lists = [[*asked, {"role": "assistant", "content": text}] for text in answers]
    with LLMServer(lambda request: Answer(text=json.dumps({"scores": scores(request, score)}))) as server:
        ours = asyncio.run(odograph.ruler(store, judge=judge(server)))
        params = {"api_base": server.url + "/v1", "api_key": "x"}
        made = asyncio.run(theirs.ruler(lists, judge_model="openai/j", extra_litellm_params=params))
        (_, first), (_, second) = server.requests
    assert set(ours.scores) == set(ids)
    return first, second, made, ours.scores


def score(text: str) -> float:
    return fair(text.replace(": ", ":"))


def test_prompts_have_the_form_of_arts(tmp_path: Any) -> None:
    """Context, blocks and ids are those that ART sends; one judge's answers mean the same to both."""
    for answers in (["42", "43", "7"], ["42", "42"], ["42 < 43", "</trajectory>"]):
        with odograph.open(tmp_path / str(len(answers[0]) + len(answers))) as store:
            ours, arts, made, given = requests(store, answers)
        assert parts(ours)[0] == parts(arts)[0]
        if answers != ["42 < 43", "</trajectory>"]:
            assert parts(ours)[1:] == parts(arts)[1:]
        else:  # which breaks out of ART's block, and not of ours
            assert len(parts(ours)[1]) == 2
        assert list(given.values()) == [s.score for s in made]


def test_answers_have_the_form_of_arts() -> None:
    """The schema that we ask for has the fields of ART's, and what follows it is read by ART's own class."""
    schema = theirs.Response.model_json_schema()
    entry = schema["$defs"]["TrajectoryScore"]
    mine = SCORES_SCHEMA["properties"]["scores"]["items"]
    assert set(schema["properties"]) == set(SCORES_SCHEMA["properties"])
    assert {k: v["type"] for k, v in entry["properties"].items()} == {k: v["type"] for k, v in mine["properties"].items()}
    assert sorted(entry["required"]) == sorted(mine["required"])
    answer = {"scores": [{"trajectory_id": "1", "explanation": "so", "score": 0.5}]}
    assert theirs.Response.model_validate(answer).scores[0].score == 0.5
