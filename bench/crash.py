"""The process that `bench` kills: records steps and says on stdout how many it was told are kept."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from .workload import steps
from .writers import WRITERS


def main(name: str, folder: str) -> None:
    """Records until it is killed."""
    writer = WRITERS[name](Path(folder))
    done = 0
    for number in range(10_000):
        context = writer.begin(number)
        for step in steps(number % 20):
            writer.step(context, step)
            done += 1
            os.write(1, b"%d\n" % done)
            time.sleep(0.002)
        writer.end(context)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
