"""The pictures of the README: `python -m examples.pictures` records a small store, opens it in Chromium, and takes them.

It needs the extras `view` and `tokens`, playwright, and a Chromium (`make browser`).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import odograph

from .session import MODULES, record, tokenizer

OUT = Path(__file__).parent.parent.parent / "docs" / "pictures"
ATTEMPTS = 4


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.pictures", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder for the pictures (default: {OUT})")
    out = parser.parse_args().out
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium on this machine: `make browser` installs it", file=sys.stderr)
        return 1
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "runs"
        by, file = tokenizer(Path(folder))
        now = time.time_ns()
        with odograph.open(store) as opened:
            made = [record(opened, by, module, attempt, now) for module in MODULES for attempt in range(ATTEMPTS)]
        command = [sys.executable, "-m", "odograph", "view", "--no-browser", "--store", str(store), "--tokenizer", str(file)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        try:
            with sync_playwright() as p:
                browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1180, "height": 760})
                page.goto(f"{url}#/t/{made[1]}")
                page.wait_for_selector(".entry.action")
                page.screenshot(path=out / "session.png")
                page.emulate_media(color_scheme="dark")
                page.goto(f"{url}#/t/{made[1]}/tokens?by=standing")
                page.wait_for_selector(".tk.st-exact")
                page.click(".tk[data-n].st-stale >> nth=0")
                page.screenshot(path=out / "tokens.png")
                browser.close()
        finally:
            server.terminate()
            server.wait()
    for picture in sorted(out.glob("*.png")):
        print(picture, f"{picture.stat().st_size // 1000} KB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
