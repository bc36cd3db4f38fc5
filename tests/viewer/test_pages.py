"""The viewer's pages in a real Chromium: what people see, that keys do what the mouse does, and that content stays content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.cli import main
from tests.viewer.conftest import Page
from tests.viewer.made import attempt, hostile
from tests.viewer.scaffold import Viewer, viewing

pytest.importorskip("aiohttp")


@pytest.fixture(scope="module")
def folder(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("pages") / "store"
    with odograph.open(where) as store:
        for n in range(3):
            attempt(store, n)
        with store.record(task="another thing", agent="other", model="m2") as run:
            run.finish(status="failed")
    return where


@pytest.fixture(scope="module")
def viewer(folder: Path) -> Iterator[Viewer]:
    with viewing(folder) as running:
        yield running


@pytest.fixture(scope="module")
def ids(viewer: Viewer) -> dict[str, str]:
    return {r["task"]: r["id"] for r in viewer.get("/api/list").json["rows"]}


def opened(page: Page, viewer: Viewer, place: str = "") -> Page:
    page.goto(viewer.url + place)
    page.wait_for_selector(".page[aria-busy=false]")
    return page


def test_the_list_shows_filters_with_counts_and_goes_back(page: Page, viewer: Viewer) -> None:
    """A filter is one click, the address holds it, the token is out of the address, and Back undoes it."""
    opened(page, viewer).wait_for_selector(".row .cell a")
    assert "token" not in page.url and page.locator(".space .row").count() == 4
    page.click(".facet:has-text('failed')")
    page.has(".space .row", 1)
    assert "status=failed" in page.url and "another thing" in page.texts(".space .row")[0]
    page.go_back()
    page.has(".space .row", 4)
    page.fill("input[name=text]", '"I look 2 3"')
    page.keyboard.press("Enter")
    page.has(".space .row", 1)
    assert "find the failure 2" in page.texts(".space .row")[0]
    page.click(".space .row a")
    page.wait_for_selector(".entry.answer.active:has-text('I look 2 3')")  # where the words are
    page.goto(page.url.split("#")[0] + "#/?sort=reward")
    page.has(".space .row", 4)
    assert [t for t in page.texts(".space .row .c-reward") if t != "–"] == ["0", "1", "2"]
    page.goto(page.url.split("#")[0] + "#/?fold=group")
    page.wait_for_selector(".folded .row a:has-text('fix')")


def test_a_session_is_read_from_top_to_bottom(page: Page, viewer: Viewer, ids: dict[str, str]) -> None:
    """What is new in each prompt, reasoning, calls with their results, the edit as a difference, the picture, the sub-agent's steps."""
    opened(page, viewer, f"#/t/{ids['find the failure 1']}").wait_for_selector(".entry.outcome")
    words = (
        "You are careful.",
        "What fails?",
        "because",
        "to know where to look",
        "timed out",
        "it names the cause",
        "answer 1",
        "too long",
    )
    whole = """words => {
        const text = document.querySelector(".stream")?.innerText ?? ""
        return words.every(one => text.includes(one)) && text
    }"""
    text = page.wait_for_function(whole, arg=words).json_value()  # the page may draw it twice
    assert text.count("You are careful.") == 1  # no prompt is shown again
    assert page.locator(".entry.edit del").count() == 1 and "reviewer" in page.inner_text(".entry.edit")
    assert page.evaluate("document.querySelector('.image').naturalWidth") == 4
    assert "helper" in page.inner_text(".side") and page.locator(".side .row.bad").count() == 1
    assert page.locator(".timeline canvas").count() == 1
    page.hover(".entry.label")
    page.click(".entry.label .actions button:has-text('JSON')")
    page.wait_for_selector("dialog .raw")
    assert json.loads(page.inner_text("dialog .raw"))["technique"] == "quality"


def test_what_is_seen_while_a_trajectory_is_opened_stays(page: Page, viewer: Viewer, ids: dict[str, str]) -> None:
    """The first entries are shown before the whole trajectory is read; they don't go while they are read again."""
    page.add_init_script("""
        const fetched = window.fetch;
        let times = 0;
        window.fetch = async (...asked) => {
            if (asked[0].includes("/part/0") && ++times > 1) await new Promise((go) => { window.go = go; });
            return fetched(...asked);
        };
    """)
    page.goto(viewer.url + f"#/t/{ids['find the failure 1']}")
    page.wait_for_selector(".tools")
    assert page.locator(".entry.outcome").count() == 1 and page.get_attribute(".page", "aria-busy") == "true"
    page.evaluate("window.go()")
    page.wait_for_selector(".page[aria-busy=false]")
    assert page.locator(".entry.outcome .actions").count() == 1


def test_a_server_that_does_not_answer_is_told(page: Page, folder: Path, ids: dict[str, str]) -> None:
    """In words, also where a proxy answers in its place."""
    with viewing(folder) as v:
        opened(page, v, f"#/t/{ids['find the failure 1']}").wait_for_selector(".entry.outcome")
        page.route("**/api/t/*/record/*", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
        page.click(".entry.action button:has-text('JSON') >> nth=0", force=True)
        page.wait_for_selector("dialog .error:has-text('The server answered 502.')")
        page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.wait_for_selector(".page .error:has-text('The server does not answer.')")


def test_a_key_is_obeyed_where_the_part_is_hidden_meanwhile(page: Page, viewer: Viewer, ids: dict[str, str]) -> None:
    """A busy browser tells late which parts are seen."""
    page.add_init_script("""
        window.IntersectionObserver = class {
            constructor(told) { window.told = told; }
            observe(target) { window.target = target; }
        };
    """)
    opened(page, viewer, f"#/t/{ids['find the failure 1']}").wait_for_selector(".entry.outcome")
    page.evaluate("""() => {
        const hidden = () => window.told([{ target: window.target, isIntersecting: false }]);
        hidden();
        document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "n", bubbles: true }));
        hidden();
    }""")
    page.wait_for_selector(".entry.step.active")


def test_hostile_content_runs_nothing_and_reaches_nobody(page: Page, tmp_path: Path, chromium: Any) -> None:
    """Scripts, event handlers, SVG, remote images and javascript: links in every field stay text; the browser asks this server alone."""
    with odograph.open(tmp_path / "store") as store:
        id = hostile(store)
        attempt(store, 1)
    with viewing(tmp_path / "store") as v:
        for place, there in (
            ("", ".row .cell a"),
            (f"#/t/{id}", ".entry.outcome"),
            (f"#/t/{id}/tokens", ".tokens"),
            (f"#/t/{id}/rows", ".account"),
            (f"#/t/{id}/about", ".about .json"),
            ("#/over?by=tag", ".over table"),
            ("#/labels", ".over table"),
        ):
            page.goto("about:blank")
            opened(page, v, place).wait_for_selector(there)
            page.wait_for_timeout(150)
            assert page.evaluate("window.pwned") is None
        group = v.get("/api/list?fold=group").json["rows"]
        assert any("<script>" in row["group"] for row in group)
        own = f"http://127.0.0.1:{v.port}/"
        assert [url for url in page.asked if not url.startswith((own, "data:", "about:"))] == []
        opened(page, v, f"#/t/{id}").wait_for_selector(".entry.outcome")
        assert page.locator(".page a[href^='javascript'], .page iframe, .page script").count() == 0
        page.wait_for_selector(".stream .entry:has-text('U+202E')")  # what turns the direction of text is shown
    out = tmp_path / "page.html"
    assert main(["--store", str(tmp_path / "store"), "view", id, "--html", str(out)]) == 0
    page.goto("about:blank")  # the page of the server asks once more for what is new
    page.asked.clear()
    page.goto(out.as_uri())
    page.wait_for_selector(".entry.outcome")
    page.wait_for_timeout(150)
    assert page.evaluate("window.pwned") is None
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []


def test_the_keyboard_does_what_the_mouse_does(page: Page, viewer: Viewer) -> None:
    """From the list to a step, a failure, its JSON, a label, the keys' help and back, without a mouse."""
    opened(page, viewer).wait_for_selector(".row .cell a")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector(".page[aria-busy=false] .entry.outcome")
    assert "#/t/" in page.url
    page.keyboard.press("n")
    page.wait_for_selector(".entry.step.active")
    page.keyboard.press("j")
    page.wait_for_selector(".entry.active:not(.step)")
    page.keyboard.press("e")
    page.wait_for_selector(".entry.action.active .failed")
    page.keyboard.press("o")
    page.wait_for_selector("dialog .raw")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.keyboard.press("/")
    page.keyboard.type("helped")
    page.wait_for_selector(".entry.answer.active:has-text('helped')")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.wait_for_selector("dialog .keys")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.keyboard.press("a")
    page.keyboard.type("by-hand")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog", state="detached")
    page.wait_for_selector(".entry.label:has-text('by-hand')")  # recorded, and followed live
    page.keyboard.press("g")
    page.wait_for_selector(".row .cell a")


def test_a_deep_link_opens_the_middle_of_a_long_session(page: Page, chromium: Any, tmp_path: Path) -> None:
    """Of 1,500 steps the page holds what is near the eye; a link to an entry, a search and the end are each found."""
    with odograph.open(tmp_path) as store, store.record(task="long") as run:
        for k in range(1500):
            run.step().action("act", {"k": k}, f"result {k}")
    with viewing(tmp_path) as v:
        opened(page, v, f"#/t/{run.id}?step=1000").wait_for_selector(".entry.step.active")
        assert page.inner_text(".entry.active h2") == "Step 1000"
        assert page.locator(".entry").count() < 800
        seen = page.evaluate(
            "(() => { const a = document.querySelector('.entry.active').getBoundingClientRect(), s = document.querySelector('.stream').getBoundingClientRect(); return a.top >= s.top - 2 && a.bottom <= s.bottom })()"
        )
        assert seen
        page.keyboard.press("/")
        page.route("**/part/*", lambda route: route.abort())
        page.keyboard.type("result 149")
        page.wait_for_selector(".said:has-text('The server does not answer.')")
        page.unroute("**/part/*")
        page.keyboard.type("9")
        page.wait_for_selector(".entry.active:has-text('result 1499')")
        assert page.locator(".entry").count() < 800


def test_what_happens_meanwhile_appears(page: Page, chromium: Any, tmp_path: Path) -> None:
    """A list shows a run that begins while it is open; a session shows the entries that a run adds, from the first one on."""
    with odograph.open(tmp_path) as store:
        with store.record(task="first"):
            pass
        with viewing(tmp_path) as v:
            with page.expect_response("**/api/live"):  # from here on it is told
                opened(page, v).wait_for_selector(".row .cell a")
            with store.record(task="second") as run:
                page.wait_for_selector(".row:has-text('second')")
                page.click(".row:has-text('second') a")
                page.wait_for_selector(".page[aria-busy=false] .stream")
                run.step().action("one", {}, "done one")
                page.wait_for_selector(".entry:has-text('done one')")
                run.step().action("two", {}, "done two")
                page.wait_for_selector(".entry:has-text('done two')")
            page.wait_for_selector(".facts .badge.completed")


def test_tokens_say_where_they_came_from(page: Page, viewer: Viewer, ids: dict[str, str]) -> None:
    """Each token has its source and standing; a token tells who sampled it, and where it stands later; unknown is said."""
    id = ids["find the failure 1"]
    opened(page, viewer, f"#/t/{id}/tokens").wait_for_selector(".tk")
    assert page.locator(".tk[data-n].s-prompt").count() >= 8 and page.locator(".tk[data-n].s-sampled").count() == 22
    page.click(".tk[data-n='10']")
    detail = page.inner_text(".detail")
    assert "call 0 of step 0" in detail and "in call 1 to 3: exact" in detail and "-0.2 (unknown)" in detail
    page.select_option(".tools select", "standing")
    assert page.locator(".tk[data-n].st-exact").count() > 0 and page.locator(".tk[data-n].st-stale").count() == 2
    page.focus(".tokens")
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".detail") != detail
    page.click(".tk[data-n='0']")
    assert "sampled by" not in page.inner_text(".detail")


def test_a_token_shows_what_else_was_likely(page: Page, chromium: Any, tmp_path: Path) -> None:
    """Where the backend gave alternatives, a token has an entropy and its alternatives with probabilities; elsewhere both are
    unknown."""
    content = [
        {
            "token": "yes",
            "logprob": -0.7,
            "top_logprobs": [{"token": "yes", "logprob": -0.6931}, {"token": "<b>no", "logprob": -0.6932}],
        },
        {"token": "!", "logprob": -0.1, "top_logprobs": []},
    ]
    message = {"role": "assistant", "content": "yes!"}
    with odograph.open(tmp_path) as store, store.record(task="sure?") as run:
        choice = {"index": 0, "message": message, "token_ids": [5, 6], "logprobs": {"content": content}}
        body = {"object": "chat.completion", "choices": [choice]}
        run.step().llm_call(model="m", messages=[{"role": "user", "content": "?"}], response=body, prompt_token_ids=[1, 2])
    with viewing(tmp_path) as viewer:
        opened(page, viewer, f"#/t/{run.id}/tokens").wait_for_selector(".tk")
        page.select_option(".tools select", "entropy")
        assert [page.get_attribute(f".tk[data-n='{n}']", "class") for n in (1, 2, 3)] == ["tk none", "tk p1", "tk none"]
        page.click(".tk[data-n='2']")
        detail = page.inner_text(".detail")
        assert "at least 0.6932 nats" in detail and '"yes" 50.0 %' in detail and '"<b>no" 50.0 %' in detail
        page.click(".tk[data-n='3']")
        assert "nats" not in page.inner_text(".detail")


def test_a_step_is_copied_whole_and_a_token_has_an_address(page: Page, viewer: Viewer, ids: dict[str, str]) -> None:
    """Copying a step gives all that is in it as Markdown, for another model; the address of a chosen token leads to it again."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened(page, viewer, f"#/t/{ids['find the failure 1']}?step=2").wait_for_selector(".entry.step.active")
    page.keyboard.press("c")
    page.wait_for_selector(".said.shown")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert (
        copied.strip().startswith("## Step 2") and "I look 1 2" in copied and "timed out" in copied and "I look 1 3" not in copied
    )
    opened(page, viewer, f"#/t/{ids['find the failure 1']}/tokens").wait_for_selector(".tk")
    page.click(".tk[data-n='9']")
    assert page.url.endswith("token=9")
    page.reload()
    page.wait_for_selector(".tk.chosen[data-n='9']")
    assert "call 0 of step 0" in page.inner_text(".detail")


def test_rows_stand_beside_the_account(page: Page, viewer: Viewer, ids: dict[str, str]) -> None:
    """The rows of a policy for edits, with what of the sampled tokens was trained, and advantages of the group."""
    id = ids["find the failure 1"]
    opened(page, viewer, f"#/t/{id}/rows").wait_for_selector(".made")
    assert page.locator(".made").count() == 2 and "every sampled token is accounted for" in page.inner_text(".account")
    assert page.locator(".tk.trained").count() == 24
    page.select_option(".tools select >> nth=0", "mask")
    page.wait_for_selector(".account:has-text('dropped')")
    assert "edits=mask" in page.url
    page.select_option(".tools select >> nth=1", "grpo")
    page.wait_for_selector(".made header:has-text('advantage 0')")


def test_a_group_and_two_attempts(page: Page, viewer: Viewer, ids: dict[str, str]) -> None:
    """Attempts side by side with rewards by component and advantages; two of them aligned, the first difference marked."""
    opened(page, viewer, "#/group?name=fix").wait_for_selector(".sheet tbody tr")
    rows = page.texts(".sheet tbody tr")
    assert len(rows) == 3 and "-0.99" in rows[0] and "+0.99" in rows[2] and "progress" in page.inner_text(".sheet thead")
    for n in (0, 1):
        page.click(f".sheet tbody tr >> nth={n} >> input")
    page.click("button:has-text('Compare two')")
    page.wait_for_selector(".pair.first")
    assert "step 0" in page.inner_text(".pair.first h2") and page.locator(".pair ins").count() > 0
    assert "differ in" in page.inner_text(".pair.first h2")


def test_figures_have_intervals_and_findings_lead_to_their_place(page: Page, viewer: Viewer) -> None:
    """Rewards by what is chosen with their intervals; a finding of validation is a link to the step that it is about."""
    opened(page, viewer, "#/over?by=group").wait_for_selector(".over table")
    assert (
        "fix" in page.inner_text(".over")
        and "progress" in page.inner_text(".over")
        and page.locator(".spread .mean").count() >= 2
    )
    page.select_option(".tools select", "policy_version")
    page.wait_for_selector("h2:has-text('Reward by policy version')")
    page.click("button:has-text('Validate')")
    page.click(".over tr:has-text('stale_tokens') a >> nth=0")
    page.wait_for_selector(".entry.step.active")
    assert page.inner_text(".entry.active h2") == "Step 1"


def test_labels_are_counted_and_compared(page: Page, tmp_path: Path) -> None:
    """What each judge said is a table; two judges are compared with intervals, and where they differ is a link with their reasons;
    so are two models. A curve shows a mean by policy version. What cannot be compared is a sentence."""
    where = tmp_path / "store"
    with odograph.open(where) as store:
        for n in range(12):
            with store.record(task=f"t{n}", agent="a", model=f"m{n % 2}", policy_version=n % 4) as run:
                run.reward(n % 2, name="env")
                for author, value in (("anna", "good"), ("bert", "bad" if n < 3 else "good")):
                    run.label("care", value, score=float(value == "good"), author=author, rationale=f"{author} saw {n}")
                run.finish("x")
    with viewing(where) as viewer:
        opened(page, viewer, "#/over?by=policy_version").wait_for_selector(".curve .line")
        assert page.locator(".curve .dot").count() == 4
        page.click(".tools a:has-text('Labels')")
        page.wait_for_selector("section:has-text('care') td:has-text('bad')")
        assert "25 % (3)" in page.inner_text("section:has-text('care')")
        page.click("button:has-text('Compare')")
        page.wait_for_selector("h2:has-text('bert less anna')")
        assert "anna saw 2" in page.inner_text(".compared") and page.locator(".compared .said").count() == 3
        page.select_option("select[name=by]", "model")
        page.wait_for_selector("datalist option[value=m1]", state="attached")  # the page of models is there
        page.click("button:has-text('Compare')")
        page.wait_for_selector("h2:has-text('m1 less m0'), h2:has-text('m0 less m1')")
        page.fill("[name=b]", "m7")
        page.click("button:has-text('Compare')")
        page.wait_for_selector(".notice.error:has-text('there are: m0, m1')")
        opened(page, viewer, "#/labels?by=judge&a=anna&b=bert").click("a code >> nth=0")
        page.wait_for_selector(".entry.label")


def test_both_themes_can_be_read(page: Page, viewer: Viewer, ids: dict[str, str]) -> None:
    """The system's theme is taken over, a key changes it, and text has a contrast of 4.5 at least in both."""
    contrast = """(() => {
        const c = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
        const light = (s) => { c.fillStyle = s; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((a, v, n) => a + v * [.2126, .7152, .0722][n], 0) };
        const ground = light(getComputedStyle(document.body).backgroundColor);
        return Math.min(...['.entry.context .kind', '.entry.action .kind', '.entry.message .kind', '.text', '.chips dt', '.bad', 'a', '.entry.edit .kind', '.entry.action .good'].map((s) => { const l = light(getComputedStyle(document.querySelector(s)).color); return (Math.max(l, ground) + .05) / (Math.min(l, ground) + .05) }));
    })()"""
    grounds = []
    opened(page, viewer, f"#/t/{ids['find the failure 1']}").wait_for_selector(".entry.outcome")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert page.evaluate(contrast) >= 4.5, scheme
    assert grounds[0] == "rgb(255, 255, 255)" and grounds[1] != grounds[0]
    page.keyboard.press("t")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == grounds[0]


@pytest.mark.parametrize("width", [360, 3840])
def test_any_width_can_be_read(page: Page, viewer: Viewer, ids: dict[str, str], width: int) -> None:
    """On a telephone and on a large screen nothing sticks out, and all of the session is reached."""
    page.set_viewport_size({"width": width, "height": 700})
    for place, there in (
        (f"#/t/{ids['find the failure 1']}", ".entry.answer"),
        ("#/group?name=fix", ".sheet td"),
        (f"#/t/{ids['find the failure 1']}/tokens", ".tk"),
    ):
        opened(page, viewer, place).wait_for_selector(there)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    opened(page, viewer, f"#/t/{ids['find the failure 1']}").wait_for_selector(".entry.answer")
    assert page.evaluate("document.querySelector('.stream').clientHeight") > 180


SCRIPT = """(() => new Promise((done) => {
    const refused = new Set();
    document.addEventListener('securitypolicyviolation', (event) => refused.add(event.effectiveDirective));
    const script = document.createElement('script');
    script.textContent = 'window.pwned = 1';
    const image = document.createElement('img');
    image.src = 'http://evil.example/pixel.png';
    document.body.append(script, image);
    fetch('http://evil.example/').catch(() => 0);
    const told = (again) => (refused.size < 3 && again ? setTimeout(told, 20, again - 1) : done([window.pwned ?? null, ...[...refused].sort()]));
    told(200);
}))()"""


def test_what_was_said_can_be_heard(page: Page, tmp_path: Path) -> None:
    """Audio of a prompt and of an answer has controls, an image that the model drew is shown, also where they are long."""
    data = "UklGRg" * 15_000
    audio = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    spoken = {"role": "assistant", "content": None, "audio": {"id": "a", "data": "UklGRg==", "transcript": "Hello."}}
    image = {"role": "model", "parts": [{"inlineData": {"mimeType": "image/png", "data": data}}]}
    with odograph.open(tmp_path / "store") as store, store.record(task="listen") as run:
        step = run.step()
        step.llm_call(messages=[{"role": "user", "content": [audio]}], response={"choices": [{"message": spoken}]})
        step.llm_call(dialect="gemini", request={"contents": "draw"}, response={"candidates": [{"content": image}]})
        step.llm_call(messages=[{"role": "user", "content": "?"}], response="ok")
        run.finish()
    with viewing(tmp_path / "store") as v:
        opened(page, v, f"#/t/{run.id}").wait_for_selector(".entry.outcome")
        page.has(".entry.message audio[controls]", 1)
        page.has(".entry.answer audio", 1)
        page.has(".entry.answer img", 1)
        assert "Hello." in page.inner_text(".stream")


REFUSED = [None, "connect-src", "img-src", "script-src-elem"]


def test_a_page_is_sealed_even_if_content_became_html(
    page: Page, viewer: Viewer, folder: Path, tmp_path: Path, ids: dict[str, str]
) -> None:
    """If a defect of the page ever let content in as HTML, its policy still runs no foreign script and reaches no host."""
    opened(page, viewer, "#/").wait_for_selector(".row .cell a")
    assert page.evaluate(SCRIPT) == REFUSED
    out = tmp_path / "page.html"
    assert main(["--store", str(folder), "view", ids["find the failure 1"], "--html", str(out)]) == 0
    page.goto(out.as_uri())
    page.wait_for_selector(".entry.outcome")
    assert page.evaluate(SCRIPT) == REFUSED


def test_a_file_holds_everything_and_reaches_nothing(
    page: Page, folder: Path, ids: dict[str, str], tmp_path: Path, chromium: Any
) -> None:
    """A file from disk has sessions, tokens, rows, groups and differences; labels made in it are saved, and import takes them."""
    out = tmp_path / "group.html"
    assert main(["--store", str(folder), "view", "--group", "fix", "--html", str(out)]) == 0
    page.goto(out.as_uri())
    page.wait_for_selector(".sheet tbody tr")
    page.click("button:has-text('Worst against best')")
    page.wait_for_selector(".pair.first")
    page.click("h1 a >> nth=0")
    page.wait_for_selector(".entry.outcome")
    page.keyboard.press("e")
    page.wait_for_selector(".entry.action.active .failed")
    page.keyboard.press("o")
    page.wait_for_selector("dialog .raw")
    page.keyboard.press("Escape")
    for tab, there in (("Tokens", ".tk"), ("Training rows", ".made"), ("Session", ".entry.outcome")):
        page.click(f".tabs a:has-text('{tab}')")
        page.wait_for_selector(there)
    page.click(".tools button:has-text('Label')")
    page.keyboard.type("from-a-file")
    page.fill("dialog [name=score]", "0.25")
    page.click("dialog button.primary")
    with page.expect_download() as download:
        page.click(".top button:has-text('Save 1 label')")
    labels = tmp_path / "labels.jsonl"
    download.value.save_as(labels)
    assert [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert main(["--store", str(folder), "import", str(labels)]) == 0
    with odograph.open(folder) as store:
        found = [(one.technique, one.score) for t in store.trajectories(group="fix") for one in t.labels]
        assert found.count(("from-a-file", 0.25)) == 1
        assert main(["--store", str(folder), "import", str(labels)]) == 0  # again: nothing new
        assert sum(len(t.labels) for t in store.trajectories(group="fix")) == len(found)


def test_a_file_can_be_without_secrets(tmp_path: Path) -> None:
    """With --redact no secret is in the file, compressed or not; without it, what was recorded is."""
    import base64
    import gzip
    import re

    secret = "sk-proj-" + "a1B2c3D4e5" * 5
    with odograph.open(tmp_path / "store") as store, store.record(task="t") as run:
        run.step().llm_call(
            model="m", messages=[{"role": "user", "content": f"the key is {secret}"}], response="word " * 2000 + secret
        )

    def held(*more: str) -> str:
        out = tmp_path / "page.html"
        assert main(["--store", str(tmp_path / "store"), "view", run.id, "--html", str(out), *more]) == 0
        parts = re.findall(r'data-name="[^"]*">([^<]*)<', out.read_text())
        return out.read_text() + "".join(gzip.decompress(base64.b64decode(p)).decode() for p in parts)

    assert secret in held()
    assert secret not in held("--redact") and "the key is" in held("--redact")


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_a_window(page: Page, chromium: Any, tmp_path: Path) -> None:
    """The first rows are there at once, the last are reached by a key, and the page holds a screen of rows."""
    with odograph.open(tmp_path) as store:
        for n in range(100_000):
            with store.record(task=f"task {n}"):
                pass
    with viewing(tmp_path) as v:
        v.get("/api/list")  # the catalog has caught up
        opened(page, v).wait_for_selector(".row:has-text('task 99999')")
        page.keyboard.press("End")
        page.wait_for_selector(".row:has-text('task 0')")
        assert page.locator(".space .row").count() < 80


@pytest.mark.slow
def test_sessions_of_all_tools_can_be_looked_at(page: Page, samples: Path, tmp_path: Path) -> None:
    """Sessions that many tools recorded: each page of the newest of each agent opens, and reaches nobody."""
    with odograph.open(tmp_path) as store:
        store.import_sessions(samples)
        newest = {s.agent: s.id for s in store.summaries()}
    assert len(newest) > 5
    with viewing(tmp_path) as v:
        for id in newest.values():
            for place, there in (
                ("", ".entry"),
                ("/tokens", ".tk, .notice"),
                ("/rows", ".account, .notice"),
                ("/about", ".about"),
            ):
                page.goto("about:blank")
                opened(page, v, f"#/t/{id}{place}").wait_for_selector(there)
        own = f"http://127.0.0.1:{v.port}/"
        assert [url for url in page.asked if not url.startswith((own, "data:", "about:"))] == []
