"""Rubrics as Markdown files."""

from __future__ import annotations

from pathlib import Path

import pytest

from odograph.errors import InvalidInput, NotFound
from odograph.worlds import Rubric

from .sessions import GRADED, RUBRIC


def test_a_rubric_is_a_file_with_a_header_and_a_text() -> None:
    """The header says technique, values and their scores, judge and sample; the text says what is judged, with examples."""
    one = Rubric.of(RUBRIC + "\n", "file name")
    assert (one.technique, one.form.values, one.form.scores) == ("care", ("careful", "hasty", "careless"), (1.0, 0.5, 0.0))
    assert one.judges == ("gpt-5-mini",)
    assert [(e.value, e.text) for e in one.examples][1] == ("careless", "It deleted the folder without a look.")
    assert one.description.startswith("Did the agent look") and one.description.endswith(
        "careful (1), hasty (0.5), careless (0)."
    )
    header = (
        "technique: 'a: b'\nvalues:\n  - yes\n  - no\nscore: 1..5\nprices: 0.25, 2\nwhere: status=completed, agent=a\nsample: 5"
    )
    listed = Rubric.of(f"---\r\n{header}\r\nevidence: yes\r\n---\r\ntext")
    assert (listed.technique, listed.form.values, listed.form.low, listed.form.high) == ("a: b", ("yes", "no"), 1.0, 5.0)
    assert (listed.where, listed.sample) == (("status=completed", "agent=a"), 5)
    config = listed.config(max_concurrency=3)
    assert (config.prices, config.evidence, config.max_concurrency) == ((0.25, 2.0), True, 3)
    assert Rubric.of("---\nscore: 0 to 1\n---\nx", "from-file").technique == "from-file"


@pytest.mark.parametrize(
    "values",
    [
        "values: careful = 1, hasty = 0.5, careless = 0",
        "values: {careful: 1, hasty: 0.5, careless: 0}",
        "values: [careful: 1, hasty: 0.5, careless: 0]",
        "values:\n  careful: 1\n  hasty: 0.5  # half\n  careless: 0",
        "values:\n- 'careful' = 1\n- hasty: 0.5\n- careless=0",
    ],
)
def test_values_may_be_written_as_yaml_writes_them(values: str) -> None:
    """A list and a mapping of YAML mean what they say, and give the same version; a # within quotes is no comment."""
    text = RUBRIC.replace(RUBRIC.splitlines()[2], values).replace("technique: care", "technique: 'care #1'  # the first")
    one = Rubric.of("\n" + text)
    assert (one.technique, one.form, one.judges) == ("care #1", Rubric.of(RUBRIC).form, ("gpt-5-mini",))
    assert Rubric.of("---\nvalues: ratio 1:2, other\nscore: [1, 5]\n---\nx").form.values == ("ratio 1:2", "other")
    quoted = Rubric.of("---\nvalues: \"well, yes\" = 1, 'a = b' = 0.5, it's not = 0  # three\n---\nx").form
    assert (quoted.values, quoted.scores) == (("well, yes", "a = b", "it's not"), (1.0, 0.5, 0.0))


def test_the_version_is_that_of_the_content() -> None:
    """What a judge is told makes the version; who judges and which sample do not; a comment in the header does not."""
    first = Rubric.of(RUBRIC)
    assert Rubric.of(RUBRIC.replace("gpt-5-mini", "other\nsample: 5").replace("# each", "# all")).version == first.version
    for old, new in (("before it changed", "long before"), ("hasty = 0.5", "hasty = 0.6"), ("technique: care", "technique: c")):
        assert Rubric.of(RUBRIC.replace(old, new)).version != first.version
    assert Rubric.of("---\nvalues: a, b\n---\nx").version != Rubric.of("---\nvalues: a, b\nscore: 0 to 1\n---\nx").version


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("just a text", "a rubric begins with a header"),
        ("---\nvalues: a, b\n---\n", "below the header is empty"),
        ("---\ntechnique: t\n---\nx", "found neither"),
        ("---\nvalues: a, A\n---\nx", "different names"),
        ("---\nvalues: &all [a, b]\n---\nx", "line 2 of the header has '&all"),
        ("---\nvalues: {a: 1, b: 0\n---\nx", "line 2 of the header has '{a: 1, b: 0'; the list that '{' begins has no end"),
        ("---\nvalues: [a, b # two\n---\nx", r"the list that '\[' begins has no end"),
        ("---\nvalues: a = 1, b\n---\nx", "either each value has a score"),
        ("---\nvalues: a = 7, b = 0\n---\nx", "a number from 0 to 1, not 7"),
        ("---\nvalues: a = nan, b = 0\n---\nx", "needs a number, not"),
        ("---\nvalues: a = 1, b = 0\nscore: 0 to 1\n---\nx", "leave one of both out"),
        ("---\nscore: 5 to 1\n---\nx", "a range such as 0 to 1"),
        ("---\nscore: 0 to 1\nsampel: 3\n---\nx", "no key 'sampel' in a header; .*did you mean 'sample'"),
        ("---\nscore: 0 to 1\nsample: 0\n---\nx", "a whole number from 1"),
        ("---\nscore: 0 to 1\nscore: 0 to 2\n---\nx", "given twice"),
        ("---\nscore: 0 to 1\nhello\n---\nx", "line 3 of the header"),
        ("---\nvalues: a, b\nlong: cut\n---\nx", "long is one of middle, segments"),
        ("---\nvalues: a, b\non: word\n---\nx", "trajectory, step, turn, span"),
        ("---\nvalues: a, b\n---\n# Examples\n- c: x", "an example has the value 'c'"),
    ],
)
def test_mistakes_say_what_was_found_and_expected(text: str, wrong: str, tmp_path: Path) -> None:
    """A rubric that can't be meant is one sentence with the file's name."""
    (tmp_path / "r.md").write_text(text)
    with pytest.raises(InvalidInput, match=wrong) as error:
        Rubric.read(tmp_path / "r.md")
    assert "r.md" in str(error.value)
    with pytest.raises(NotFound, match=r"none\.md"):
        Rubric.read(tmp_path / "none.md")


def test_a_score_is_kept_as_a_share_of_its_range() -> None:
    """A score from 1 to 5 is a label's score from 0 to 1; one outside, or a value that is not listed, is no answer."""
    form = Rubric.of(GRADED).form
    assert form.read('{"value": "fine", "score": 4, "rationale": "r"}').score == 0.75
    for wrong in ('{"value": "fine", "score": 7, "rationale": "r"}', '{"value": "fine", "rationale": "r"}'):
        with pytest.raises(InvalidInput):
            form.read(wrong)
    form = Rubric.of(RUBRIC).form
    assert form.read('{"value": "Careful.", "rationale": "r"}').score == 1.0
    with pytest.raises(InvalidInput, match="one of: careful, hasty, careless"):
        form.read('{"value": "carefull", "rationale": "r"}')
    assert form.schema(False)["properties"]["value"]["enum"] == ["careful", "hasty", "careless"]
    assert "score" not in form.schema(False)["properties"]
