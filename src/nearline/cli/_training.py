"""What training may take of the machine, where it is cut off, and how its result is published."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from nearline._errors import Conflict, StateError
from nearline.cli import _gate, _own
from nearline.config import Config
from nearline.deep import load_model
from nearline.glmix import GLMix
from nearline.loop import Committed, History, SelectionLog
from nearline.loop._versions import TRAINING
from nearline.store import Record, Registry, Version

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained model on its way to the registry.

    Attributes
    ----------
    start, cutoff
        Examples of the ledger [start, cutoff) that it has learned; what comes after is learned when it is published.
    metrics
        How it did while it learned, by name.
    settings
        What it was trained with, for people.
    also
        What is saved in the version's folder beside the model, by name.
    logs
        What was chosen to train the network (False), and the one for comparison (True).
    """

    model: GLMix
    version: Version
    start: int
    cutoff: int
    metrics: Mapping[str, float]
    settings: Mapping[str, Any]
    parent: Version | None = None
    also: Mapping[str, Any] = field(default_factory=dict)
    logs: Mapping[bool, Any] = field(default_factory=dict)


def confine(config: Config) -> None:
    """Take the low priority and the memory limit of `[training]`, so that serving goes first."""
    settings = config.tables.training
    if not _own.PROCESS:
        return
    os.nice(settings.nice)
    if settings.memory_gb is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (int(settings.memory_gb * 2**30), hard))


@contextmanager
def registry_of(config: Config) -> Iterator[Registry]:
    """The registry of the state directory, made if it is not there."""
    registry = Registry(config.running().folder, clock=time.time)
    try:
        yield registry
    finally:
        registry.close()


def live_version(registry: Registry, file: Path) -> Record:
    """What is live, which every training but the first begins with."""
    live = registry.live()
    if live is None:
        raise StateError(f"{registry.folder} has no published version; make one with: nearline fit {file}")
    return live


def live_model(registry: Registry, file: Path) -> GLMix:
    """The live model, which knows what the ledger records."""
    return load_model(registry.path(live_version(registry, file).version))


def trained_on(config: Config, table: Any) -> Any:
    """The rows of a table that a fit may learn: without those that are held out for the gate."""
    holdout = config.running().gating.holdout
    return table if holdout is None else holdout.train(table)


def cutoff_of(config: Config, history: History, committed: Committed) -> int:
    """Where a fit on the ledger stops: the newest `[training] judge` examples, a fifth at most, are left to the gate.

    A fit never ends within what was learned anew at an earlier swap: such a span is passed over as a whole.
    """
    end = committed.positions.get("examples", 0)
    left = min(config.tables.training.judge, (end - history.first) // 5) if config.running().gated else 0
    position = history.boundary(end - left) if left else end
    return next((start for start, stop in committed.copies if start < position < stop), position)


def keep(config: Config, registry: Registry, made: Candidate, who: str, why: str) -> Record:
    """Register a candidate, with the positions that it has learned up to and what it was trained with and on."""
    staged = made.model.save(registry.stage())
    for name, part in made.also.items():
        part.save(staged / name)
    for shadow, log in made.logs.items():
        SelectionLog.stage(staged, log, shadow)
    positions = {"start": made.start, "examples": made.cutoff}
    about = {"version": str(made.version), "positions": positions, "metrics": made.metrics, **made.settings}
    (staged / TRAINING).write_bytes(msgspec.json.format(msgspec.json.encode(about)))
    record = registry.register(
        staged, made.version, who=who, why=why, parent=made.parent, metrics=made.metrics, positions=positions,
        config=config.digest(),
    )  # fmt: skip
    SelectionLog(registry.folder).collect(registry)
    return record


def publish(
    config: Config, registry: Registry, version: Version, who: str, why: str, live: Version | None, quiet: bool
) -> tuple[str, ...]:
    """Make a candidate live if the gate lets it; why it was refused, empty where it was not.

    Parameters
    ----------
    live
        What was live when the candidate was begun: compare-and-set.

    Raises
    ------
    Conflict
        Another line was published meanwhile: the candidate was made for one that is gone.
    """
    if live is not None and config.running().gated:
        verdict = _gate.judged(config, registry, version, quiet)
        if verdict is not None and not verdict.passed:
            return verdict.reasons
    for _ in range(_TRIES):
        now = registry.live()
        found = None if now is None else now.version
        if _line(found) != _line(live):
            raise Conflict(
                f"version {version} was made while {live} was live, and {found} is now: it is registered and not "
                f"published; look at it with nearline gate {version}"
            )
        try:
            registry.publish(version, who=who, why=why, expected=found)
        except Conflict:
            continue  # the service keeps a version of the same line every so often
        return ()
    raise Conflict(f"version {version} is registered; what is live changes too often to publish it: try again")


def _line(version: Version | None) -> tuple[int, int] | None:
    return None if version is None else (version.whole, version.batch)


def conclude(made: Record, reasons: tuple[str, ...] | None, file: Path, as_object: bool) -> None:
    """Say what came of it, and end the command: with status 1 where the gate refused."""
    report(made, reasons, file, as_object)
    if reasons:
        sys.exit(1)


def report(made: Record, reasons: tuple[str, ...] | None, file: Path, as_object: bool) -> None:
    """Say what came of it; `reasons` None where it was not to be published."""
    published = reasons == ()
    if as_object:
        found = {
            "version": str(made.version),
            "published": published,
            **made.metrics,
            "cutoff": made.positions["examples"],
        }
        print(msgspec.json.encode(found | ({"refused": reasons} if reasons else {})).decode())
        return
    console = Console(markup=False, highlight=False, soft_wrap=True)
    state = "live" if published else "registered"
    console.print(
        f"version {made.version} is {state}: learned {int(made.metrics['events']):,} events, log loss "
        f"{made.metrics['loss']:.4f}"
    )
    for reason in reasons or ():
        console.print(f"  not published: {reason}")
    if published:
        console.print(f"serve it and keep it fresh: nearline run {file}")
