"""Laws of importing that a small change could break unseen: what stands under what."""

from __future__ import annotations

import json
from pathlib import Path

import odograph


def test_a_sub_agents_records_stand_under_its_steps(store: odograph.Store, tmp_path: Path) -> None:
    """In an imported session the calls and tool calls of a sub-agent have the sub-agent's own step as their parent, not the run."""

    def steps(name: str) -> list[dict[str, object]]:
        call = {"tool_call_id": f"{name}-c", "function_name": "look", "arguments": {}}
        return [
            {"step_id": 1, "source": "user", "message": f"go, {name}"},
            {"step_id": 2, "source": "agent", "message": f"I am {name}", "tool_calls": [call]},
        ]

    agent = {"name": "boss", "version": "1", "model_name": "m"}
    sub = {"schema_version": "ATIF-v1.4", "session_id": "s2", "agent": {**agent, "name": "helper"}, "steps": steps("helper")}
    session = {"schema_version": "ATIF-v1.4", "session_id": "s1", "agent": agent, "steps": steps("boss")}
    path = tmp_path / "session.json"
    path.write_text(json.dumps({**session, "subagent_trajectories": [sub]}))
    report = store.import_sessions(path)
    assert (report.imported, report.failed) == (1, [])
    t = next(store.trajectories())
    under = {s.record.id: (s.agent, s.index) for s in t.steps if s.record is not None}
    assert len(t.llm_calls) == len(t.actions) == 2
    for record in (*(c.record for c in t.llm_calls), *t.actions):
        assert under[record.parent or ""] == (record.agent or t.agent, record.step)
    assert len({record.agent for record in t.actions}) == 2
