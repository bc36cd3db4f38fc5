"""Secrets: found where they are and not where they are not, and, with `redact=`, in no file that is written."""

from __future__ import annotations

import json
import pickle
import random
import sqlite3
import string
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import odograph
from odograph.codec import fold_events
from odograph.prefix import Prefix
from odograph.redact import History, Redactor
from odograph.secrets import may_hold, secrets_in
from odograph.types import TAG
from tests.llm_server import Answer, LLMServer

CHANCE = random.Random(5)


def chars(count: int, of: str = string.ascii_letters + string.digits) -> str:
    return "".join(CHANCE.choice(of) for _ in range(count - 4)) + "a1B2"


PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(chars(64) for _ in range(6)) + "\n-----END RSA PRIVATE KEY-----"
#: kind -> a secret of it; none is real.
SECRETS = {
    "api_key": "sk-proj-" + chars(60),
    "anthropic_key": "sk-ant-api03-" + chars(90),
    "aws_access_key": "AKIA" + "".join(CHANCE.choice(string.ascii_uppercase) for _ in range(16)),
    "github_token": "ghp_" + chars(36),
    "gitlab_token": "glpat-" + chars(20),
    "huggingface_token": "hf_" + chars(34),
    "google_key": "AIza" + chars(35),
    "slack_token": "xoxb-123456789012-" + chars(24),
    "stripe_key": "sk_live_" + chars(24),
    "groq_key": "gsk_" + chars(52),
    "npm_token": "npm_" + chars(36),
    "pypi_token": "pypi-AgEIcHlwaS5vcmc" + chars(80),
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + chars(43),
    "private_key": PEM,
}


def harmless(chance: random.Random) -> list[str]:
    """What agents' text is full of and what is no secret."""
    data = chance.randbytes
    import base64
    import hashlib

    return [
        str(uuid.UUID(int=chance.getrandbits(128))),
        hashlib.sha256(data(8)).hexdigest(),
        f"commit {hashlib.sha1(data(8)).hexdigest()}",
        "data:image/png;base64," + base64.b64encode(data(3000)).decode(),
        f"call_{chars(24)}",
        f"chatcmpl-{chars(29)}",
        "npm install risk-assessment-2024-quarterly-report-v12",
        'token = tokenizer.decode(ids[0], skip_special_tokens=True)  # {"token": " hello", "logprob": -0.1}',
        'password = os.environ["DB_PASSWORD"]; api_key = "YOUR_API_KEY_HERE_1234567890"',
        "http://localhost:8000/v1/chat?token_count=12345 and https://user:password@example.com/",
        "if '-----BEGIN PRIVATE KEY-----' in text: refuse()",
        '"usage": {"prompt_tokens": 1234567, "total_tokens": 12}, "max_tokens": 4096',
    ]


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_where_it_stands(kind: str) -> None:
    """Whole, alone, in prose, in JSON and in JSON inside of JSON; and the quick question before it never says no."""
    secret = SECRETS[kind]
    for text in (
        secret,
        f"the key is {secret}, use it",
        f"KEY={secret}\n",
        json.dumps({"v": [secret]}),
        json.dumps(json.dumps(secret)),
    ):
        assert may_hold(text)
        assert may_hold(json.dumps(text))
        found = secrets_in(text)
        assert [s.kind for s in found] == [kind], text
        assert found[0].certain
        if secret in text:
            assert secret in text[found[0].start : found[0].stop]


@pytest.mark.parametrize("kind", [kind for kind in SECRETS if kind != "private_key"])
def test_a_secret_at_the_beginning_of_a_line_in_json_in_a_text(kind: str) -> None:
    """The `n` of an escaped newline is no letter of the word: a file in a tool call's arguments, line by line. The same after other
    escapes of JSON, those of URLs, and a terminal's colours."""
    secret = SECRETS[kind]
    for before in ("\\n", "\\t", "\\u003d", "%3D", "\x1b[0m", "\x1b[32m", "\x1b[1;32m"):
        text = f"keys:{before}{secret}"
        assert may_hold(text)
        (found,) = secrets_in(text)
        assert (found.kind, text[found.start : found.stop]) == (kind, secret), before


@pytest.mark.parametrize("kind", [kind for kind in SECRETS if kind != "private_key"])
def test_a_secret_in_the_midst_of_a_word(kind: str) -> None:
    """Behind a name and in the midst of a word, a key whose first letters are found nowhere else is one; what has letters that end
    common words, or that any long value may have, is none there."""
    secret = SECRETS[kind]
    alike = kind in ("google_key", "jwt", "huggingface_token")
    for before in ("n", "\\nn", "3D", "token"):
        assert (kind in [s.kind for s in secrets_in(f"keys:{before}{secret}")]) is not alike, before
    for before in ("late-", "my_"):
        assert (kind in [s.kind for s in secrets_in(f"keys:{before}{secret}")]) is (kind not in ("google_key", "jwt")), before
    assert [s for s in secrets_in("x" * 20 + CHANCE.randbytes(20).hex() + secret) if s.kind != "aws_access_key"] == []


def test_what_only_looks_random_is_none() -> None:
    """Hashes, uuids, images, ids of calls, code that handles keys, and placeholders are left alone."""
    for text in harmless(random.Random(1)):
        assert secrets_in(text) == [], text


def test_a_random_value_beside_a_name_is_likely_one() -> None:
    """`api_key: ...`, `password="..."`: found, but not for certain; a plain word there is none."""
    for text in (f'api_key = "{chars(32)}"', "export DB_PASSWORD='tr0ub4dor&3x'", json.dumps({"clientSecret": chars(40)})):
        assert [(s.kind, s.certain) for s in secrets_in(text)] == [("named_secret", False)], text
    for text in ('api_key = "production-environment"', "password: hunting", 'secret = "the cake is a lie"'):
        assert secrets_in(text) == []


@settings(max_examples=200, deadline=None)
@given(st.text(), st.sampled_from(sorted(SECRETS)), st.text())
def test_nothing_is_left_of_it(before: str, kind: str, after: str) -> None:
    """Whatever stands around a secret, apart from what would make it part of a longer word, none of it is left."""
    secret = SECRETS[kind]
    text = f"{before} {secret} {after}"
    assert secret not in Redactor(True).text(text, Counter())


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.text() | st.floats() | st.integers(), lambda c: st.lists(c) | st.dictionaries(st.text(), c), max_leaves=20
    )
)
def test_what_holds_none_stays_as_it_is(value: Any) -> None:
    """No copy and no change where there is nothing to take out."""
    found: Counter[str] = Counter()
    after = Redactor(True).value(value, found)
    assert after is value or found


def grep(folder: Path, *needles: str) -> list[str]:
    """Files of a folder in which one of the texts stands, as it is or escaped, whole or the half of it."""
    hits = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for needle in needles:
                for part in (needle, needle[: len(needle) // 2], needle[len(needle) // 2 :]):
                    if part.encode() in data or json.dumps(part)[1:-1].encode() in data:
                        hits.append(f"{path.name}: {part[:12]}")
    return hits


def ids_of(text: str) -> list[int]:
    """Token ids that spell a text."""
    return [ord(c) for c in text]


def fill(store: odograph.Store, secret: str) -> str:
    class Holder:
        def __repr__(self) -> str:
            return f"<Holder {secret}>"

    with store.record(task={"q": f"use {secret}"}, agent="a", tags=[f"t {secret}"], metadata={"k": {"deep": [secret]}}) as run:
        history: list[Any] = [{"role": "user", "content": f"my key: {secret}"}]
        for n in range(3):
            with run.step({"page": secret}) as step:
                step.context("env", {secret: 1}, query=secret, purpose="p")
                call = step.llm_call(
                    model="m",
                    messages=history,
                    response=f"I use {secret} now" if n == 1 else "fine",
                    thinking=secret,
                    prompt_token_ids=ids_of(f"my key: {secret}"),
                    token_ids=ids_of(f"I use {secret} now"),
                    logprobs=[-0.5] * len(f"I use {secret} now"),
                    tools=[{"type": "function", "function": {"name": "f", "description": f"{secret} " * 3}}],
                )
                step.action("curl", {"h": f"Bearer {secret}"}, Holder(), error=ValueError(secret))
                step.action("raw", secret.encode() + b"\xff", [b"\xfe" + secret.encode()])
                if n == 1:
                    step.edit(call).replace(0, 1, f"no: {secret}", reason=secret)
                step.reward(1.0, rationale=secret)
            history += [{"role": "assistant", "content": f"I use {secret}"}, {"role": "user", "content": f"{n}"}]
        run.label("j", {"v": secret}, score=0.5, rationale=secret)
        run.note(secret)
        run.finish(secret)
    return run.id


def test_a_history_that_was_changed_is_recorded_as_it_was_sent(tmp_path: Path) -> None:
    """A redacting store records each message as it was asked, where an agent rewrites or cuts messages that it sent before, too."""
    sent: list[list[Any]] = [
        [{"role": "user", "content": content} for content in contents]
        for contents in (["a"], ["b"], ["b", "c"], ["d", "c"], ["c"], [f"d {SECRETS['api_key']}", "e"], ["d", "e"])
    ]
    with odograph.open(tmp_path, redact=True) as store:
        with store.record(task="t") as run:
            for messages in sent:
                with run.step() as step:
                    step.llm_call(model="m", messages=messages, response="yo")
        read = [call.messages for call in store.trajectory(run.id).llm_calls]
    sent[-2][0]["content"] = "d [redacted:api_key]"
    assert read == sent


def test_a_message_that_an_agent_changes_in_place_is_looked_at_again(tmp_path: Path) -> None:
    """The same object holds another text at the next call: its secret is none of the store's."""
    message: dict[str, Any] = {"role": "user", "content": "hello"}
    with odograph.open(tmp_path, redact=True) as store:
        with store.record(task="t") as run:
            for content in ("hello", f"hello {SECRETS['api_key']}", "bye"):
                message["content"] = content
                with run.step() as step:
                    step.llm_call(model="m", messages=[message], response="yo")
        read = [call.messages[0]["content"] for call in store.trajectory(run.id).llm_calls]
    assert read == ["hello", "hello [redacted:api_key]", "bye"]
    assert grep(tmp_path, SECRETS["api_key"]) == []


def test_a_secret_whose_letters_are_escaped_is_found_in_a_message_that_came_as_bytes() -> None:
    key = SECRETS["github_token"]
    escaped = "".join(f"\\u{ord(c):04x}" for c in key)
    found: Counter[str] = Counter()
    (kept,) = History().messages("k", [msgspec.Raw(f'{{"role":"user","content":"{escaped}"}}'.encode())], Redactor(True), found)
    assert found == {"github_token": 1} and b"[redacted:github_token]" in bytes(kept)


def test_what_was_redacted_before_is_counted_with_what_is_found_now() -> None:
    """A record that says already how much was taken out of it goes on counting."""
    note = {"text": f"{SECRETS['api_key']}", "extra": {"redacted": {"api_key": 2, "jwt": 1}, "by": "me"}}
    kept, _ = Redactor(True).fields("note", note, History())
    assert kept["extra"] == {"redacted": {"api_key": 3, "jwt": 1}, "by": "me"}
    kept, _ = Redactor(lambda text: text.replace("x", "y")).fields("note", {"text": ["x", "a", "xx"]}, History())
    assert kept == {"text": ["y", "a", "yy"], "extra": {"redacted": {"function": 2}}}


def test_a_named_secret_has_eight_characters() -> None:
    found: Counter[str] = Counter()
    given = [{"password": "Xk92mQp"}, {"password": "Xk92mQpz"}]
    assert Redactor(True).value(given, found) == [{"password": "Xk92mQp"}, {"password": "[redacted:named_secret]"}]
    assert found == {"named_secret": 1}
    assert Redactor(True).value(given[:1], found)[0] is given[0]  # nothing was found in it


def test_a_redactor_is_the_same_in_another_process() -> None:
    """As judges take it there: by its patterns, or as the function that it is."""
    for how, text in ((True, SECRETS["api_key"]), (["x[0-9]"], "x1"), (str.upper, "a")):
        there = pickle.loads(pickle.dumps(Redactor(how)))
        assert there.text(text, Counter()) == Redactor(how).text(text, Counter()) != text


def test_a_stream_that_can_not_be_read_is_left_out_and_counted() -> None:
    kept, found = Redactor(True).fields("llm_call", {"response": "x", "events": 5}, History())
    assert "events" not in kept and found == {"unreadable": 1}


def test_what_is_nested_too_deep_to_be_looked_at_is_taken_out_whole() -> None:
    value: list[Any] = []
    for _ in range(200_000):
        value = [value]
    found: Counter[str] = Counter()
    assert (Redactor(True).value({"a": [value]}, found), found) == ("[redacted:too_deep]", {"too_deep": 1})


def test_what_only_looks_like_bytes_is_looked_at(tmp_path: Path) -> None:
    """Content in the form that bytes are kept in, whose base64 is none, hides no secret; a secret in bytes is counted."""
    secret = SECRETS["api_key"]
    with odograph.open(tmp_path, redact=True) as store:
        with store.record(task="t") as run, run.step({TAG: "bytes", "value": f"no base64: {secret}"}) as step:
            step.context("env", secret.encode())
        t = store.trajectory(run.id)
    assert grep(tmp_path, secret) == []
    assert t.steps[0].observation == "[redacted:api_key]"
    assert t.steps[0].contexts[0].extra["redacted"] == {"api_key": 1}


def test_an_edit_that_completes_a_secret_is_rejected(tmp_path: Path) -> None:
    """Half of a secret stands in the answer, and an edit puts in the other half, or all of it: the edit is kept without its result."""
    secret = SECRETS["api_key"]
    with odograph.open(tmp_path, redact=True) as store:
        with store.record(task="t") as run, run.step() as step:
            call = step.llm_call(model="m", messages=[], response=secret[:12])
            step.edit(call).insert(12, secret[12:])
            step.edit(call).insert(12, " and nothing else")
            ids = step.llm_call(model="m", messages=[], response="abc", token_ids=[1, 2, 3])
            step.edit(ids).insert(3, secret)
        made, harmless, put_in = store.trajectory(run.id).steps[0].edits
    for edit in (made, put_in):
        assert (edit.result, edit.rejected) == ([], "it is of, or makes, what is redacted")
    assert harmless.rejected is None and len(harmless.result) == 2
    assert grep(tmp_path, secret[12:]) == []


def test_the_arguments_of_a_program(tmp_path: Path) -> None:
    """A flag and its value that are two items of a list, or stand so in the JSON text of a tool call's arguments."""
    argv = ["login", "--db-password", "hunter2Zx81jQmV0", "--user", "hunter2Zx81jQmV0-user", "-v"]
    text = json.dumps({"command": argv})
    with odograph.open(tmp_path / "s", redact=True) as store:
        with store.record() as run:
            run.action("shell", {"command": argv}, [text, json.dumps(text)])
        (action,) = store.trajectory(run.id).actions
    assert action.extra["redacted"] == {"named_secret": 3}
    given = action.arguments["command"]
    assert given == ["login", "--db-password", "[redacted:named_secret]", *argv[3:]]
    assert Redactor(True).value(argv[1:3], Counter()) == ["--db-password", "[redacted:named_secret]"]
    assert all("hunter2Zx81jQmV0-user" in told and '0"' not in told and "0\\" not in told for told in action.result)


@pytest.mark.parametrize("kind", ["api_key", "private_key", "jwt"])
def test_no_file_of_the_store_holds_it(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Wherever an agent puts a secret, whatever object holds it, none of it is in the journal, the catalog, or on stderr."""
    secret = SECRETS[kind]
    with odograph.open(tmp_path, redact=True) as store:
        id = fill(store, secret)
        t = store.trajectory(id)
        assert list(store.search("key"))
        assert grep(tmp_path, secret) == []
        again = json.dumps(t.to_dict())
        assert secret[8:40] not in again
        assert t.steps[1].llm_calls[0].text == f"I use [redacted:{kind}] now"
        assert t.steps[0].actions[0].extra["redacted"]
        for call in t.llm_calls:  # their prompt has it, so ids would spell it
            assert call.prompt_token_ids is None
        assert t.steps[0].llm_calls[0].choices[0].token_ids is None  # its reasoning had it
        edit = t.steps[1].edits[0]  # its parts could tell what is redacted
        assert (edit.result, edit.rejected) == ([], "it put in what was redacted")
        assert store.validate(profile="sft", ignore=["orphan_edit"]).errors == []
    for table in sqlite3.connect(tmp_path / "catalog.sqlite").iterdump():
        assert secret[8:40] not in table
    out = capfd.readouterr()
    assert secret[8:40] not in out.out + out.err


def test_a_secret_in_bytes_alone_or_beside_its_name(tmp_path: Path) -> None:
    """Bytes are looked into where nothing else in the record hints at a secret; so is a value whose name stands in a field beside it."""
    secret = SECRETS["api_key"]
    word = "tr0ub4dor&3-x"  # a secret by its name alone
    with odograph.open(tmp_path, redact=True) as store, store.record(task="t") as run, run.step() as step:
        step.action("read", {}, secret.encode() + b"\xff")
        step.action("env", {}, [{"name": "DB_PASSWORD", "value": word}, {"key": "DB_PASSWORD", "value": word}])
    read, env = store.trajectory(run.id).steps[0].actions
    assert read.result == "[redacted:api_key]"
    assert [one["value"] for one in env.result] == ["[redacted:named_secret]"] * 2
    assert grep(tmp_path, secret, word) == []


@pytest.mark.parametrize("body", [lambda s: f"no JSON {s}", lambda s: [f"a list {s}"], lambda s: f"bytes {s}".encode()])
def test_a_request_that_is_no_object_is_redacted(tmp_path: Path, body: Callable[[str], Any]) -> None:
    """A request of any shape (a body that is no JSON, a list, bytes) is kept without its secret, and so is such a response."""
    secret = SECRETS["api_key"]
    with odograph.open(tmp_path, redact=True) as store, store.record(task="t") as run, run.step() as step:
        step.record_call({"request": body(secret), "response": body(secret)})
    (call,) = store.trajectory(run.id).llm_calls
    assert "[redacted:api_key]" in str(call.record.request)
    assert "[redacted:api_key]" in str(call.record.response)
    assert grep(tmp_path, secret) == []


def test_ids_that_a_request_sends_beside_its_text_do_not_spell_a_secret(tmp_path: Path) -> None:
    """A request of token ids, with the text beside them, loses the ids where the text had a secret, and nothing else; a clean one
    keeps its ids."""
    secret = SECRETS["api_key"]
    with odograph.open(tmp_path, redact=True) as store, store.record(task="t") as run, run.step() as step:
        for text in (f"use {secret}", "use nothing"):
            request = {"prompt": text, "input_ids": ids_of(text), "model": "m"}
            step.llm_call(request=request, response="ok", dialect="openai.completions")
    found, clean = store.trajectory(run.id).llm_calls
    assert found.request == {"prompt": "use [redacted:api_key]", "model": "m"}
    assert clean.request == {"prompt": "use nothing", "input_ids": ids_of("use nothing"), "model": "m"}


@pytest.mark.parametrize("where", ["prompt", "answer"])
def test_ids_of_a_call_do_not_spell_a_secret(where: str, tmp_path: Path) -> None:
    """A secret in the prompt alone takes the ids of the prompt; one in the answer, which the ids of a prompt may hold too, takes all."""
    text = f"use {SECRETS['api_key']}"
    asked, said = (text, "ok") if where == "prompt" else ("q", text)
    with odograph.open(tmp_path, redact=True) as store, store.record(task="t") as run, run.step() as step:
        messages = [{"role": "user", "content": asked}]
        step.llm_call(messages=messages, response=said, prompt_token_ids=ids_of(asked), token_ids=ids_of(said))
    (call,) = store.trajectory(run.id).llm_calls
    assert call.prompt_token_ids is None
    assert call.choices[0].token_ids == (ids_of("ok") if where == "prompt" else None)


@pytest.mark.parametrize("where", ["prompt", "answer"])
def test_ids_in_a_response_do_not_spell_a_secret(where: str, tmp_path: Path) -> None:
    """The same where the ids and the logprobs with their texts stand in the body of the response."""
    text = f"use {SECRETS['api_key']}"
    asked, said = (text, "ok") if where == "prompt" else ("q", text)
    spelled = {"content": [{"token": letter, "logprob": -0.5} for letter in said]}
    choice = {"message": {"role": "assistant", "content": said}, "token_ids": ids_of(said), "logprobs": spelled}
    with odograph.open(tmp_path, redact=True) as store, store.record(task="t") as run, run.step() as step:
        body = {"choices": [choice], "prompt_token_ids": ids_of(asked)}
        step.llm_call(messages=[{"role": "user", "content": asked}], response=body)
    response = store.trajectory(run.id).llm_calls[0].response
    assert "prompt_token_ids" not in response
    kept = response["choices"][0]
    assert (kept.get("token_ids"), kept.get("logprobs")) == ((ids_of("ok"), spelled) if where == "prompt" else (None, None))


def marked(text: str) -> str:
    """A redacting function of a user whose work can be counted."""
    return f"<{text}>"


def gone(text: str) -> str:
    return text.replace("chat", "gone")


def test_words_beside_token_ids_and_a_dialect_are_redacted(tmp_path: Path) -> None:
    """What is no number in ids, logprobs and versions is a text like any other, and so is a dialect that nobody knows; numbers,
    and a dialect that a redacting function would change, stay."""
    secret = SECRETS["api_key"]
    with odograph.open(tmp_path / "rules", redact=True) as store, store.record(task="t") as run:
        run.llm_call(messages=[], response="x", token_ids=[secret, 2], logprobs=[secret, -0.5])
        run.llm_call(messages=[], response="x", prompt_token_ids=[secret], dialect=secret)
        run.llm_call(messages=[], response="x", token_ids=[1], policy_versions=[(0, secret), (1, 7)], dialect="openai.chat")
    worded, unknown, versions = store.trajectory(run.id).llm_calls
    assert worded.choices[0].logprobs == ["[redacted:api_key]", -0.5]
    assert unknown.record.dialect == "[redacted:api_key]"
    assert versions.record.tokens[0].versions == [(0, "[redacted:api_key]"), (1, 7)]
    assert [c.record.extra["redacted"]["api_key"] for c in (worded, unknown, versions)] == [2, 2, 1]
    assert grep(tmp_path, secret) == []
    with odograph.open(tmp_path / "function", redact=gone) as store, store.record(task="t") as run:
        run.llm_call(messages=[], response="x", token_ids=[1], dialect="openai.chat")
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.record.dialect, call.choices[0].token_ids) == ("openai.chat", [1])


def test_a_function_of_the_user_sees_each_text_once(tmp_path: Path) -> None:
    """What it makes of a text is no text for it to look at again, also where a whole trajectory is added, and added again."""
    made = odograph.Trajectory.from_dict({"task": "asked", "steps": [{"actions": [{"name": "act", "result": "done"}]}]})
    with odograph.open(tmp_path, redact=marked) as store:
        for _ in range(2):
            t = store.trajectory(store.add(made))
            assert (t.task, t.actions[0].result, len(t.records)) == ("<asked>", "<done>", len(made.records))


def test_without_redact_it_is_kept(tmp_path: Path) -> None:
    """The store of somebody who did not ask holds what was recorded, exactly."""
    with odograph.open(tmp_path) as store:
        fill(store, SECRETS["api_key"])
    assert grep(tmp_path, SECRETS["api_key"])


def test_a_clean_call_keeps_its_tokens_and_its_stream(tmp_path: Path) -> None:
    """Redaction costs only what it has to: ids, logprobs, numbers and structure of what holds no secret stay exact."""
    with odograph.open(tmp_path, redact=True) as store:
        with store.record(task="x") as run:
            with run.step({"v": [1.5, float("nan"), None, 2**70]}) as step:
                body = {"choices": [{"message": {"role": "assistant", "content": "4"}, "token_ids": [9], "x": 0.0}], "usage": {}}
                step.llm_call(
                    messages=[{"role": "user", "content": "2+2"}],
                    response=body,
                    prompt_token_ids=[1, 2],
                    params={"temperature": 0},
                )
        t = store.trajectory(run.id)
        call = t.llm_calls[0]
        assert call.response == body
        assert (call.prompt_token_ids, call.choices[0].token_ids) == ([1, 2], [9])
        assert call.request == {"messages": [{"role": "user", "content": "2+2"}], "temperature": 0}
        assert t.steps[0].observation["v"][3] == 2**70
        assert "redacted" not in (call.record.extra or {})


def test_a_secret_in_pieces_of_a_stream(tmp_path: Path) -> None:
    """A streamed answer brings a secret in many chunks: neither the whole nor the chunks are kept; a clean stream is."""
    import openai

    secret = SECRETS["api_key"]
    with LLMServer([Answer(text=f"take {secret} and go"), Answer(text="nothing here")]) as server:
        client = odograph.wrap(openai.OpenAI(base_url=server.url + "/v1", api_key=secret))
        with odograph.open(tmp_path, redact=True) as store, store.record(task="x") as run, run.step():
            said = []
            for content in (f"q {secret}", "q"):
                stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": content}], stream=True)
                said.append("".join(c.choices[0].delta.content or "" for c in stream if c.choices))
            assert said[0] == f"take {secret} and go"  # the agent's own is untouched
        first, second = store.trajectory(run.id).llm_calls
        assert first.text == "take [redacted:api_key] and go"
        assert first.events == []
        assert second.text == "nothing here"
        assert second.events
    assert grep(tmp_path, secret) == []
    for path in (tmp_path / "journal").glob("*"):
        for start in range(0, len(secret) - 8, 4):
            assert secret[start : start + 8] not in path.read_text()


def chunks(*texts: str, **more: Any) -> Any:
    """The events of a stream whose answer comes in these pieces."""
    return fold_events([{"choices": [{"index": 0, "delta": {"content": text, **more}}]} for text in texts])


def with_events(folder: Path, events: Any) -> odograph.Call:
    """A call of another tool's trajectory: a stream beside an answer that says nothing of what the stream holds."""
    with odograph.open(folder, redact=True) as store:
        call = {"model": "m", "request": {"messages": [{"role": "user", "content": "q"}]}, "response": "done", "events": events}
        return store.trajectory(store.add({"task": "t", "agent": "a", "steps": [{"llm_calls": [call]}]})).llm_calls[0]


def test_a_secret_that_only_the_stream_holds(tmp_path: Path) -> None:
    """Chunks that spell a secret, have one beside a name, or can't be read are dropped, also where the answer is clean."""
    secret = SECRETS["api_key"]
    assert with_events(tmp_path / "clean", chunks("noth", "ing")).events
    pieces = chunks("take ", secret[:8], secret[8:16], secret[16:])
    named = chunks("take", api_key=chars(30))
    for name, events in {"pieces": pieces, "named": named, "broken": {"paths": 1, "rows": [[0, secret]]}}.items():
        call = with_events(tmp_path / name, events)
        assert call.events == [] and call.response == "done", name
        assert sum(call.record.extra["redacted"].values()) >= 1, name
        assert "events" not in "".join(path.read_text() for path in (tmp_path / name / "journal").glob("*")), name


def test_redaction_of_what_is_clean_changes_nothing(tmp_path: Path) -> None:
    """Every field of a call, an edit and a reward without a secret is in a redacted store what it is in another; beside a secret, too."""
    secret = SECRETS["api_key"]
    kept = []
    for redact in (None, True):
        with odograph.open(tmp_path / str(redact), redact=redact) as store, store.record(task="t", agent="a") as run:
            with run.step() as step:
                call = step.llm_call(
                    messages=[{"role": "user", "content": "q"}],
                    response="a long answer",
                    model="m",
                    usage={"completion_tokens": 3},
                    error="late",
                    duration=5,
                    metadata={"k": 1},
                )
                step.edit(call).replace(2, 6, "short", reason="brief")
                step.reward(1.0, name="env", rationale=secret)
        t = store.trajectory(run.id)
        record = t.llm_calls[0].record
        (edit,) = t.steps[0].edits
        kept.append(
            {
                "request": record.request,
                "response": record.response,
                "call": [record.model, record.error, record.duration, record.usage, record.extra],
                "edit": [edit.result, edit.reason, edit.rejected],
                "reward": t.steps[0].rewards["env"],
            }
        )
        assert (secret in str(t.to_dict())) == (redact is None)
    assert kept[0] == kept[1]
    assert kept[1]["edit"][2] is None


def test_what_comes_from_elsewhere(tmp_path: Path) -> None:
    """Added and imported trajectories are redacted too, and adding one again adds nothing."""
    secret = SECRETS["github_token"]
    with odograph.open("memory:") as plain:
        whole = plain.trajectory(fill(plain, secret)).to_dict()
    session = tmp_path / "in" / "chat.jsonl"
    session.parent.mkdir()
    session.write_text(
        json.dumps({"messages": [{"role": "user", "content": secret}, {"role": "assistant", "content": f"ok {secret}"}]}) + "\n"
    )
    with odograph.open(tmp_path / "s", redact=True) as store:
        id = store.add(whole)
        size = sum(f.stat().st_size for f in (tmp_path / "s/journal").glob("*"))
        assert store.add(whole) == id
        assert sum(f.stat().st_size for f in (tmp_path / "s/journal").glob("*")) == size
        assert store.import_sessions(session).imported == 1
        assert store.import_sessions(session).skipped == 1
        list(store.search("ok"))
    assert grep(tmp_path / "s", secret) == []


def green(text: str) -> str:
    """What a store of the tests keeps of a text."""
    return text.replace("blue", "green")


def moody(text: str) -> Any:
    """Fails on a secret, and is no text of one text."""
    if SECRETS["api_key"] in text:
        raise ValueError(text)
    return 5 if text == "five" else text


def test_patterns_and_functions(tmp_path: Path) -> None:
    """`redact=` takes patterns beside the built-in rules, or a function of a text; what is neither is refused in a sentence."""
    with odograph.open(tmp_path / "p", redact=[r"Project [A-Z]\w+", "x?"]) as store:  # a match of nothing
        with store.record(task=f"Project Manhattan with {SECRETS['jwt']}") as run:
            run.note("y")
        found = store.trajectory(run.id)
        assert found.task == "[redacted:pattern] with [redacted:jwt]"
        assert found.start is not None and found.start.extra["redacted"] == {"pattern": 1, "jwt": 1}  # each is counted once
    with odograph.open(tmp_path / "f", redact=green) as store:
        with store.record(task={"colour": "deep blue"}) as run:
            run.note("x")
        assert store.trajectory(run.id).task == {"colour": "deep green"}
    for wrong in ("text", 5):
        with pytest.raises(TypeError, match="redact is True, a list of patterns, or a function"):
            odograph.open(tmp_path, redact=wrong)  # type: ignore[arg-type]
    with pytest.raises(odograph.InvalidInput, match="no regular expression"):
        odograph.open(tmp_path, redact=["("])


def test_a_function_that_fails_costs_the_text_and_not_the_record(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Where the function raises, or answers with no text, the text is not kept, the record says so, and all else is there."""
    secret = SECRETS["api_key"]

    with odograph.open(tmp_path, redact=moody) as store:
        with store.record(task="t") as run:
            with run.step("five") as step:
                step.llm_call(messages=[{"role": "user", "content": f"key {secret}"}], response="fine", token_ids=[1])
                step.reward(0.5)
        t = store.trajectory(run.id)
        assert t.steps[0].observation == "[redacted:function_failed]"
        assert t.llm_calls[0].messages == [{"role": "user", "content": "[redacted:function_failed]"}]
        assert t.llm_calls[0].record.extra == {"redacted": {"function_failed": 1}}
        assert (t.llm_calls[0].text, t.llm_calls[0].choices[0].token_ids, t.reward) == ("fine", [1], 0.5)
        assert secret not in str(store.health())
    assert grep(tmp_path, secret) == []
    assert secret not in "".join(str(w.message) for w in recwarn)


@pytest.mark.parametrize("to", ["hf", "jsonl", "openai", "parquet", "atif", "verifiers"])
def test_an_export_without_them(to: str, tmp_path: Path) -> None:
    """A store that holds secrets is exported without: in no row, in no manifest, whatever was asked for; the store is as it was."""
    secret = SECRETS["api_key"]
    with odograph.open(tmp_path / "s") as store:
        fill(store, secret)
        store.export(tmp_path / "plain", "jsonl")
        manifest = store.export(tmp_path / "out", to, redact=True, text=f'"{secret}"')
        assert manifest["trajectories"]["in"] == 1
        assert manifest["redact"] == "the built-in rules"
        assert json.dumps(next(iter(store.trajectories())).to_dict()).count(secret) > 5
    assert grep(tmp_path / "plain", secret)
    assert grep(tmp_path / "out", secret) == []
    with odograph.open(tmp_path / "s") as store, pytest.raises(TypeError, match="redact is True"):
        store.export(tmp_path / "no", to, redact="text")  # type: ignore[arg-type]


def test_fields_with_names_that_json_can_not_hold_are_left_out() -> None:
    """Of a record with such a name nothing is known, so nothing of it is kept where there may be a secret."""
    kept, found = Redactor(True).fields("note", {"\ud800": SECRETS["github_token"], "data": "x"}, History())
    assert kept == {"extra": {"redacted": {"unreadable": 1}}} and found == {"unreadable": 1}


@settings(max_examples=200)
@given(st.randoms(use_true_random=False))
def test_histories_that_grow_are_redacted_as_each_message_alone_is(chance: random.Random) -> None:
    """Whatever a call sends after which other call: beginnings of one history, longer or shorter, other histories, lists of the same
    messages or of equal ones: each message is what redaction makes of it alone, and each call counts the secrets in its messages.
    A `Prefix` stays one, so that who packs it looks at what is new."""
    redactor, history = Redactor(["x[0-9]"]), History(raw=False)
    bases: list[list[Any]] = [[], []]
    handed: list[tuple[Any, list[Any]]] = []
    for _ in range(chance.randrange(2, 12)):
        base = chance.choice(bases)
        for _ in range(chance.randrange(3)):
            base.append({"role": "user", "content": chance.choice(["a", "b", "x1", "x2 x3", 1, True])})
        part = base[: chance.randint(0, len(base))]
        sent = chance.choice([Prefix(base), Prefix(base, len(part)), part, [dict(m) for m in part]])
        found: Counter[str] = Counter()
        alone: Counter[str] = Counter()
        wanted = [redactor.value(m, alone) for m in sent]
        handed.append((history.messages("key", sent, redactor, found), wanted))
        assert found == alone and type(handed[-1][0]) is type(sent)
        assert all(
            repr(list(given)) == repr(wanted) for given, wanted in handed
        )  # those before are what they were; 1 is not True
