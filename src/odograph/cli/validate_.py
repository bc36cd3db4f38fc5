"""`odograph validate`: the data-quality checks over a store."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, NotFound
from ..quality import PROFILES, Report, known, validate
from .common import add_filters, add_json, clashes, existing_store, filter_names, filters_of, print_json, progress
from .terminal import line, paint, table

HELP = "check trajectories for defects that make training on them unsafe; exit status 1 on errors"


#: What `[tool.odograph.validate]` may say, and of which type it is.
_SETTINGS: dict[str, type] = {"profile": str, "ignore": list, "tokenizer": str, "workers": int, "checks": list}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help="check only these trajectories")
    parser.add_argument(
        "--profile", choices=PROFILES, help="which checks to run: all (default), or the checks for structure, SFT or RL"
    )
    parser.add_argument("--ignore", action="append", default=[], metavar="CODE", help="skip this check; may be repeated")
    parser.add_argument(
        "--check",
        action="append",
        default=[],
        metavar="FILE",
        help="also run the checks of this file.py or package:object; may be repeated",
    )
    parser.add_argument("--tokenizer", metavar="FILE", help="a tokenizer.json, for the checks that decode token ids")
    parser.add_argument("--workers", type=int, metavar="N", help="number of processes (default: one per core)")
    parser.add_argument("--export", metavar="DIR", help="check the files of an export in place of the store")
    add_filters(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    settings = _settings()
    profile = args.profile or settings.get("profile", "all")
    ignore = [*settings.get("ignore", []), *args.ignore]
    checks = [*settings.get("checks", []), *args.check]
    clashes(args, "--export", "ID", "--tokenizer", "--workers", *filter_names())
    if args.export is not None:
        if not Path(args.export).is_dir():
            raise NotFound(f"no folder {args.export!r}")
        report = validate(Path(args.export), profile=profile, ignore=ignore, checks=checks)
    else:
        with existing_store(args) as store:
            filters = filters_of(args)
            report = store.validate(
                profile=profile,
                ignore=ignore,
                checks=checks,
                tokenizer=args.tokenizer or settings.get("tokenizer"),
                workers=args.workers if args.workers is not None else settings.get("workers"),
                progress=progress("validating", store.count(**filters)),
                **filters,
            )
    if args.json:
        print_json(report.to_dict())
    else:
        _print(report, f"{report.checked:,} trajectories" if args.export is None else "the export", len(known(checks)))
    return 0 if report.valid else 1


def _settings() -> dict[str, Any]:
    """`[tool.odograph.validate]` of the nearest pyproject.toml. Raises InvalidInput."""
    here = Path.cwd()
    path = next((p for p in (folder / "pyproject.toml" for folder in (here, *here.parents)) if p.is_file()), None)
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            found: Any = tomllib.load(file)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path} can't be read: {error}") from None
    for key in ("tool", "odograph", "validate"):
        found = found.get(key, {})
        if not isinstance(found, dict):
            raise InvalidInput(f"{path}: {key} of [tool.odograph.validate] is a table, not {found!r}")
    for name, value in found.items():
        if name not in _SETTINGS:
            raise InvalidInput(f"{path}: [tool.odograph.validate] has no {name!r}; there are: {', '.join(_SETTINGS)}")
        if not isinstance(value, _SETTINGS[name]) or isinstance(value, bool):
            raise InvalidInput(f"{path}: {name} in [tool.odograph.validate] is a {_SETTINGS[name].__name__}, not {value!r}")
        if isinstance(value, list) and not all(isinstance(one, str) for one in value):
            raise InvalidInput(f"{path}: {name} in [tool.odograph.validate] is a list of texts, not {value!r}")
    settings: dict[str, Any] = found
    folder = path.parent  # files in it are meant from there, wherever the command runs
    if "tokenizer" in settings:
        settings["tokenizer"] = _from(folder, settings["tokenizer"])
    if "checks" in settings:
        settings["checks"] = [_from(folder, one) for one in settings["checks"]]
    return settings


def _from(folder: Path, name: str) -> str:
    """A file of that folder by its whole path; anything else as it is."""
    file, colon, what = name.partition(":")
    return f"{folder / file}{colon}{what}" if file.endswith((".py", ".json")) else name


def _print(report: Report, looked_at: str, checks: int) -> None:
    first: dict[str, list[str]] = {}
    for f in report.findings:
        if f.code not in first:
            where = f"{f.trajectory[-8:]} {f.path}" if f.trajectory else f.path
            first[f.code] = [f.severity, f"{where}: {line(f.message)}"]
    rows = [
        [code, first[code][0], f"{count:,}", first[code][1]]
        for code, count in sorted(report.counts.items(), key=lambda c: (first[c[0]][0], -c[1]))
    ]
    if rows:
        print("\n".join(table(["check", "severity", "found", "for example"], rows, right={2})))
    errors, warnings = report.error_count, report.warning_count
    verdict = paint("valid", "green") if report.valid else paint("not valid", "red")
    print(f"{verdict}: {looked_at}, {errors:,} errors, {warnings:,} warnings, {checks} checks known")
