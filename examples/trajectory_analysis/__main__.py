"""`python -m examples.trajectory_analysis [SESSIONS...] --out analysis`: the whole analysis with one command and no model."""

from __future__ import annotations

import argparse
from pathlib import Path

import odograph
from odograph.worlds import Label, LabelingProcessor, Rubric, SamplingConfig, SamplingProcessor, ScoringProcessor

from . import annotator, sessions
from .judge import serving
from .report import report

HERE = Path(__file__).parent
SAMPLES = HERE.parent.parent.parent / "shared" / "samples"
_LARGEST = 150_000  # bytes of a session's file: an example has a minute
_PEOPLE = 20


def analyse(out: Path, given: list[Path]) -> Path:
    """Records or imports sessions, labels them in two forks, compares, draws, and writes `report.md`; returns its path."""
    kind, strict = Rubric.read(HERE / "kind.md"), Rubric.read(HERE / "strict.md")
    out.mkdir(parents=True, exist_ok=True)
    with odograph.open(out / "store") as store, serving() as url:
        if given:
            found = store.import_sessions(*given)
            print(f"{found.imported} sessions imported, {found.skipped} known before")
        if not len(store) or not given:
            sessions.record(store)
        stages = [SamplingProcessor(), LabelingProcessor(), ScoringProcessor()]
        config = kind.config(base_url=url, api_key="none", model=kind.judges[0])
        base = store.world("sessions", processors=stages, resources=[SamplingConfig(), config], fresh=True)
        ids = base.spawn_from(store.trajectories(), labels=[kind.label()])
        forks = {name: base.fork(f"care-{name}", fresh=True) for name in ("kind", "strict")}
        for id in ids:
            forks["strict"].update(id, strict.label())
        for name, fork in forks.items():
            fork.step()
            fork.write_back(store)
            print(f"labelled {len(ids)} sessions by the {name} rubric")
        people = annotator.label(store, strict, _PEOPLE)
        print(f"a person labelled {people} of them")
        rubrics = store.compare("care-kind", "care-strict", by="world")
        judged = store.compare("people", strict.judges[0], by="judge", technique="care", rubric=strict.version)
        rubrics.plot(out / "comparison.svg")
        rows = {name: fork.query(Label).to_pylist() for name, fork in forks.items()}
        (out / "report.md").write_text(report(rows, rubrics, judged, "comparison.svg"))
    return out / "report.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sessions", nargs="*", type=Path, help="files or folders of sessions (default: made-up sessions)")
    parser.add_argument("--out", type=Path, default=Path("analysis"), help="folder of the store and the report")
    args = parser.parse_args()
    given: list[Path] = args.sessions
    if not given and SAMPLES.is_dir():
        given = [p for p in sorted(SAMPLES.rglob("*.json*")) if p.stat().st_size < _LARGEST]
    try:
        print(f"the report is in {analyse(args.out, given)}")
    except odograph.OdographError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
