"""The viewer in Chromium: how long until a long session, a long list, many tokens and a large file are in sight."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TEXT = "the tests of the module fail because the loop stops one token early and nobody looked at the last line "


def all_parts(bench: Any) -> None:
    """Everything, where there is a Chromium and what drives it."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found = None
    if found is None:
        print("viewer: no Chromium (`make browser`) or no playwright here", file=sys.stderr)
        return
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        for part in (session, listing, tokens):
            part(bench, browser)
        browser.close()


@contextmanager
def viewing(store: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "odograph", "view", "--no-browser", "--store", str(store)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.wait()


#: Writes down when each selector (or text) is in the page first. Whoever waits from outside looks only now and then.
SEEN = """(wanted) => { window.seen = {}; const look = () => { for (const one of wanted)
  if (!(one in seen) && (one.startsWith("text=") ? document.body?.textContent.toLowerCase().includes(one.slice(5).toLowerCase()) : document.querySelector(one)))
    seen[one] = performance.now(); };
  new MutationObserver(look).observe(document, { childList: true, subtree: true, characterData: true }); }"""


def until(browser: Any, url: str, *selectors: str) -> list[float]:
    """Milliseconds from the beginning of the page until each of the selectors is in it."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.add_init_script(f"({SEEN})({json.dumps(selectors)})")
    page.goto(url)
    for selector in selectors:
        page.wait_for_selector(selector, timeout=120_000)
    seen = page.evaluate("seen")
    page.close()
    return [seen[selector] for selector in selectors]


def talk(steps: int) -> Iterator[tuple[str, str, dict[str, Any], str]]:
    """What a long session says in each step: asked, answered, arguments of a tool, its result."""
    for k in range(steps):
        yield f"{k} {TEXT * 15}", f"{k} {TEXT * 10}", {"k": k}, f"{k} {TEXT * 15}"


def inspect(bench: Any, browser: Any, steps: int, ours: float) -> None:
    """The same session in Inspect's viewer, where `INSPECT_PYTHON` has one (bench/peer_inspect.py says how)."""
    peer = os.environ.get("INSPECT_PYTHON")
    if not peer:
        return
    folder, script = bench.folder(), Path(__file__).with_name("peer_inspect.py")
    name = "2026-01-01T00-00-00_t_a.eval"
    lines = "\n".join(json.dumps(step) for step in talk(steps))
    subprocess.run([peer, str(script), str(folder / name)], input=lines, text=True, check=True, stdout=subprocess.DEVNULL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(peer).with_name("inspect")), "view", "start", "--log-dir", str(folder), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.1)
        page = f"http://127.0.0.1:{port}/#/tasks/{name}"
        until(browser, page, "text=SAMPLES")  # the server has imported all that it needs
        (theirs,) = until(browser, f"{page}/samples/sample/1/1/messages", "text=the loop stops one token early")
    finally:
        server.terminate()
        server.wait()
    bench.add(f"session of {steps:,} steps: first entries in Inspect's viewer", theirs, "ms", "ours", theirs / ours, "-", None)


def session(bench: Any, browser: Any) -> None:
    """A session of 10,000 steps and 50 MB: its head, its first entries, again from memory, and as a file."""
    import odograph

    steps = 1_000 if bench.quick else 10_000
    folder = bench.folder()
    with odograph.open(folder) as store, store.record(task="a long session", agent="a", model="m") as run:
        history: list[dict[str, Any]] = []
        for k, (asked, answered, arguments, result) in enumerate(talk(steps)):
            history = [*history, {"role": "user", "content": asked}][-20:]
            with run.step() as step:
                step.llm_call(model="m", messages=history, response=answered)
                step.action("run", arguments, result, ok=k % 50 > 0)
    with viewing(folder) as url:
        until(browser, url, ".row .cell a")  # the server has imported all that it needs
        head, entries, whole = until(browser, f"{url}#/t/{run.id}", "h1", ".entry.action", ".tabs")
        (again,) = until(browser, f"{url}#/t/{run.id}", ".entry.action")
    name = f"session of {steps:,} steps"
    bench.add(f"{name}: head", head, "ms", "500 ms", head / 500, "1", head < 500)
    bench.add(f"{name}: first entries", entries, "ms", "500 ms", entries / 500, "-", None)
    bench.add(f"{name}: outline and timeline", whole, "ms", "500 ms", whole / 500, "-", None)
    bench.add(f"{name}: opened again", again, "ms", "500 ms", again / 500, "1", again < 500)
    inspect(bench, browser, steps, entries)
    out = folder / "page.html"
    command = [sys.executable, "-m", "odograph", "view", run.id, "--html", str(out), "--store", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (opened,) = until(browser, out.as_uri(), ".entry.action")
    bench.add(f"{name} as a file: first entries", opened, "ms", "1,000 ms", opened / 1000, "1", opened < 1000)


def listing(bench: Any, browser: Any) -> None:
    """A list of 100,000 trajectories: its first rows, and the frames of scrolling through it."""
    import odograph

    count = 5_000 if bench.quick else 100_000
    folder = bench.folder()
    with odograph.open(folder) as store:
        for n in range(count):
            with store.record(task=f"task {n}", agent="a", model="m", group=f"g{n // 8}"):
                pass
        store.count()
    with viewing(folder) as url:
        until(browser, url, ".row .cell a")
        (first,) = until(browser, url, ".row .cell a")
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        page.wait_for_selector(".row .cell a")
        frames = page.evaluate(
            "new Promise((done) => { const rows = document.querySelector('.rows'); let n = 0, worst = 0, last = performance.now();"
            " const begun = last; const step = (now) => { worst = Math.max(worst, now - last); last = now; rows.scrollTop += 997;"
            " if (++n < 120) requestAnimationFrame(step); else done([120000 / (now - begun), worst]); };"
            " requestAnimationFrame(step); })"
        )
    bench.add(f"list of {count:,}: first rows", first, "ms", "500 ms", first / 500, "1", first < 500)
    bench.add(f"list of {count:,}: scrolling", frames[0], "frames/s", "60", frames[0] / 60, "-", None)


def tokens(bench: Any, browser: Any) -> None:
    """A hundred thousand tokens, coloured: from the answer of the server until they are in the page."""
    import odograph

    count = 10_000 if bench.quick else 100_000
    folder = bench.folder()
    with odograph.open(folder) as store, store.record(task="tokens", agent="a", model="m") as run:
        ids = list(range(count // 2))
        answer = list(range(count // 2, count))
        run.step().llm_call(
            model="m",
            messages=[{"role": "user", "content": "q"}],
            response="a",
            prompt_token_ids=ids,
            token_ids=answer,
            logprobs=[-0.5] * len(answer),
        )
    with viewing(folder) as url:
        until(browser, url, ".row .cell a")
        until(browser, f"{url}#/t/{run.id}/tokens", ".tk")
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{url}#/t/{run.id}/tokens")
        page.wait_for_selector(".tk")
        again = page.evaluate(
            "new Promise((done) => { const choice = document.querySelector('.tools select'); const begun = performance.now();"
            " choice.value = 'standing'; choice.dispatchEvent(new Event('change'));"
            " requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun))); })"
        )
    bench.add(f"{count:,} tokens coloured anew", again, "ms", "200 ms", again / 200, "1", again < 200)
