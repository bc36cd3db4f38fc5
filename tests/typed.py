"""How much of the public interface has a known type, by pyright: `python -m tests.typed --at-least 97` fails below that."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--at-least", type=float, default=97.0, help="the lowest share that is accepted, in percent (default: 97)"
    )
    floor = parser.parse_args().at_least
    # pyright looks for the package with the Python that is first on the path, whatever --pythonpath says
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "pyright", "--verifytypes", "odograph", "--ignoreexternal"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False)
    found = re.search(r"Type completeness score: ([0-9.]+)%", done.stdout)
    if found is None:
        print(done.stdout[-2000:], done.stderr[-2000:], sep="\n")
        return 2
    share = float(found[1])
    if share < floor:
        print(done.stdout)
    print(f"{share:g}% of the public interface has a known type; at least {floor:g}% are wanted")
    return int(share < floor)


if __name__ == "__main__":
    sys.exit(main())
