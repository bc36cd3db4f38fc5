"""The breaks that `make mutate` leaves out are of lines that are there."""

from pathlib import Path

import odograph
from tests.mutate import judged


def test_what_is_left_out_is_in_the_source() -> None:
    source = Path(odograph.__file__).parent
    for file, what in judged():
        before = what.split("\n  ")[1].removeprefix("- ")
        assert before in " ".join((source / file).read_text().split()), f"tests/judged: no such line in {file}: {before}"
