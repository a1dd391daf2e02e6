"""`nearline gate`: would a version do better than what is served? Asked of the ledger, answered with reasons."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from nearline import config as configs
from nearline._errors import StateError
from nearline.cli import _progress
from nearline.config import Config
from nearline.gate import Check, Verdict
from nearline.loop import Committed
from nearline.loop import judged as judged_beside_live
from nearline.store import Registry, Version

_SHOWN = 5
NOT_JUDGED = "not judged: the ledger holds no examples yet"


def run(file: Path, version: str, as_object: bool) -> None:
    """Judge a version and print why; exit status 1 where it is refused. Nothing is changed."""
    config = configs.load(file)
    if not (config.running().folder / "registry.sqlite").exists():
        raise StateError(f"{config.running().folder} has no versions yet; make one with: nearline fit {file}")
    registry = Registry(config.running().folder, clock=time.time)
    try:
        verdict = judged(config, registry, Version.parse(version), as_object)
    finally:
        registry.close()
    if as_object:
        print(msgspec.json.encode({"version": version, "verdict": verdict and verdict.summary()}).decode())
    else:
        show(version, verdict)
    sys.exit(0 if verdict is None or verdict.passed else 1)


def judged(config: Config, registry: Registry, version: Version, quiet: bool) -> Verdict | None:
    """What the gate says of a version beside the live one; None where nothing is live, or the ledger holds nothing."""
    running = config.running()
    with _progress.phases(quiet) as say:
        return judged_beside_live(
            registry, version, running.gating, safety=running.safety,
            copies=lambda: Committed.of(running.folder).copies,
            progress=lambda share: say(f"playing version {version} against the ledger", share),
        )  # fmt: skip


def show(version: str, verdict: Verdict | None) -> None:
    """Every check in a table, the worst slices, and the conclusion in sentences."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    if verdict is None:
        console.print(f"version {version} is {NOT_JUDGED}")
        return
    console.print(_checks(verdict))
    if any(piece.worse for piece in verdict.slices):
        console.print(_slices(verdict))
    if verdict.passed:
        console.print(f"version {version} may be published: every check passed", style="bold")
        return
    console.print(f"version {version} is refused:", style="bold red")
    for reason in verdict.reasons:
        console.print(f"  {reason}")


def _checks(verdict: Verdict) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found")
    for check in verdict.checks:
        table.add_row(check.name.replace("_", " "), _mark(check), check.sentence, style="" if check.passed else "red")
    return table


def _slices(verdict: Verdict) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="slices, the worst first", title_justify="left")
    for name in ("slice", "examples", "loss", "interval", "flips", "p (Holm)"):
        table.add_column(name, justify="left" if name == "slice" else "right", no_wrap=True)
    for piece in verdict.slices[:_SHOWN]:
        low, high = piece.interval
        table.add_row(
            f"{piece.key} {piece.value}", f"{piece.examples:,}", f"{piece.change:+.2%}", f"{low:+.2%} to {high:+.2%}",
            f"{piece.flips:.2%}", f"{piece.p:.3g}", style="red" if piece.worse else "",
        )  # fmt: skip
    return table


def _mark(check: Check) -> str:
    return "passed" if check.passed else "REFUSED"
