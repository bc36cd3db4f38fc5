"""`odograph validate`: the data-quality checks over a store."""

from __future__ import annotations

import argparse

from ..quality import CHECKS, PROFILES, Report, damage_findings, validate_all
from .common import add_filters, add_json, existing_store, filters_of, print_json, progress
from .terminal import line, paint, table

HELP = "check trajectories for what makes them unfit to train on or to trust; exit status 1 on errors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help="these trajectories only")
    parser.add_argument(
        "--profile", default="all", choices=PROFILES, help="which checks: all, or those that structure, SFT or RL need"
    )
    parser.add_argument("--ignore", action="append", default=[], metavar="CODE", help="leave this check out; may be repeated")
    parser.add_argument("--tokenizer", metavar="FILE", help="a tokenizer.json, for the checks that decode token ids")
    add_filters(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with existing_store(args) as store:
        filters = filters_of(args)
        if args.ids:
            filters["ids"] = args.ids
        update = progress("validating", sum(1 for _ in store.summaries(**filters)))
        report = validate_all(
            store.trajectories(**filters), profile=args.profile, ignore=args.ignore, tokenizer=args.tokenizer, progress=update
        )
        if not args.ids:
            report.add(damage_findings(store.damages()), args.ignore)
    if args.json:
        print_json(report.to_dict())
    else:
        _print(report)
    return 0 if report.valid else 1


def _print(report: Report) -> None:
    first: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for f in report.findings:
        counts[f.code] = counts.get(f.code, 0) + 1
        if f.code not in first:
            where = f"{f.trajectory[-8:]} {f.path}" if f.trajectory else f.path
            first[f.code] = [f.severity, f"{where}: {line(f.message)}"]
    rows = [
        [code, first[code][0], str(count), first[code][1]]
        for code, count in sorted(counts.items(), key=lambda c: (first[c[0]][0], -c[1]))
    ]
    if rows:
        print("\n".join(table(["check", "severity", "found", "for example"], rows, right={2})))
    errors, warnings = len(report.errors), len(report.warnings)
    verdict = paint("valid", "green") if report.valid else paint("not valid", "red")
    print(f"{verdict}: {report.checked:,} trajectories, {errors:,} errors, {warnings:,} warnings, {len(CHECKS)} checks known")
