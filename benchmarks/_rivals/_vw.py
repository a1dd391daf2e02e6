"""Vowpal Wabbit reading its own binary cache: one pass, progressive.

VW predicts every example before it learns from it. The wheel ships no executable; `Workspace` given `-d` runs the same
driver. Three facts of VW 9.11 shape how it is run:

* a cache is opened only beside a data source, so the source is the null device: were the cache not read, VW would see
  no example at all, and the count of examples is checked;
* with `--coin` or `--lrq` the loss it sums and the predictions it writes come from two different predictions, both made
  before the label is learned; VW is given the better log loss of the two;
* its parser runs in a second thread, and formatting and writing predictions (`-p`) takes longer than all the rest. So
  there are four honest clocks, with and without predictions, on one core or on two; `clocks` takes them all.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

import numpy as np

from benchmarks._rivals._events import Events, Floats, Space
from benchmarks._rivals._scores import Scores, sigmoid

OUT = Path(__file__).resolve().parents[2] / "out" / "rivals"

LEARNERS = {
    "ftrl": "--ftrl",
    "pistol": "--pistol",
    "coin": "--coin",
    "adagrad": "",
    "adaptive": "--adaptive --invariant",
    "sgd": "--sgd",
}
"""`adagrad` is VW's default (normalized, adaptive, invariant); `adaptive` is the same without the normalisation."""

BUILD_BITS = 26  # a cache serves every run that asks for as many bits or fewer


@dataclass(frozen=True)
class Settings:
    """One way to run VW: learner, its numbers, interactions (as VW arguments), table size, spaces read."""

    learner: str
    knobs: tuple[tuple[str, float], ...]
    interactions: str = "-q ub -q ma"
    bits: int = 22
    spaces: str = "umab"

    @property
    def low_rank(self) -> bool:
        """Whether it learns low-rank products of two spaces."""
        return "lrq" in self.interactions

    def arguments(self) -> str:
        """The VW command line, data and output left out."""
        knobs = " ".join(f"--{name} {value:.6g}" for name, value in self.knobs)
        return " ".join(
            f"--loss_function logistic -b {self.bits} {LEARNERS[self.learner]} {knobs} {self.interactions}".split()
        )


@dataclass(frozen=True)
class Clocks:
    """Seconds of one pass from the cache: {with or without the prediction file} × {one core, two}."""

    predictions_one_core: float
    silent_one_core: float
    predictions_two_cores: float
    silent_two_cores: float


def cache(events: Events, spaces: str) -> Path:
    """VW's cache of these events with these spaces; the text file and the cache are built once and kept."""
    OUT.mkdir(parents=True, exist_ok=True)
    text = OUT / f"vw-{events.digest}-{len(events)}-{spaces}.txt"
    binary = text.with_suffix(".cache")
    if not binary.exists():
        partial = binary.with_suffix(".partial")
        _write(text, events, spaces)
        _drive(f"--noop -b {BUILD_BITS} -d {text} -k --cache_file {partial}", len(events))
        partial.rename(binary)
        text.unlink()
    return binary


def loss(settings: Settings, binary: Path, examples: int, ignore: str = "") -> float:
    """Progressive log loss as VW sums it while it drives; infinite where the setting diverges to NaN."""
    ignored = " ".join(f"--ignore {space}" for space in ignore)
    total = _drive(f"{settings.arguments()} {ignored} {_source(binary)}", examples)[1]
    return total / examples if math.isfinite(total) else math.inf


def progressive(settings: Settings, events: Events, one_core: bool = False) -> Scores:
    """Probabilities made before each label is learned; seconds include writing them to VW's prediction file."""
    binary = cache(events, settings.spaces)
    written = OUT / f"vw-{os.getpid()}.predictions"
    with _cores(1 if one_core else 2):
        seconds, total = _drive(f"{settings.arguments()} {_source(binary)} -p {written}", len(events))
    margin = np.loadtxt(written, dtype=np.float64)
    written.unlink()
    return Scores(sigmoid(margin), seconds, reported=total / len(events))


def seconds(settings: Settings, events: Events, one_core: bool = True, predictions: bool = True) -> float:
    """Wall seconds of one pass from the cache, which is in the page cache after the first call.

    Predictions are formatted and written as ever, but to the null device, so that no disk is on VW's clock.
    """
    binary = cache(events, settings.spaces)
    output = f" -p {os.devnull}" if predictions else ""
    with _cores(1 if one_core else 2):
        return _drive(f"{settings.arguments()} {_source(binary)}{output}", len(events))[0]


def clocks(settings: Settings, events: Events, times: int = 3) -> Clocks:
    """Best of `times` on each of the four clocks: VW at its fastest."""
    cells = [(True, True), (True, False), (False, True), (False, False)]
    return Clocks(*(min(seconds(settings, events, *cell) for _ in range(times)) for cell in cells))


def _source(binary: Path) -> str:
    return f"-d {os.devnull} --cache_file {binary}"


def _drive(arguments: str, examples: int) -> tuple[float, float]:
    """Run VW's driver to the end: (wall seconds, summed progressive loss)."""
    from vowpalwabbit import Workspace

    start = time.perf_counter()
    workspace = Workspace(f"--quiet {arguments}")
    seen, total = workspace.get_weighted_examples(), workspace.get_sum_loss()
    workspace.finish()
    took = time.perf_counter() - start
    if seen != examples:
        raise RuntimeError(f"VW saw {seen:.0f} of {examples} events: vw --quiet {arguments}")
    return took, total


def _write(path: Path, events: Events, spaces: str) -> None:
    """One line per event, `1 |u 6040 |m 858 …`; numeric names, which VW hashes cheapest and without collisions."""
    columns = [_texts(events.spaces[name]) for name in spaces]
    with path.open("w") as file:
        for label, *parts in zip(events.liked, *columns):
            file.write(f"{1 if label else -1} {' '.join(parts)}\n")


def _texts(space: Space) -> Iterator[str]:
    seen: dict[bytes, str] = {}

    def text(columns: Floats, values: Floats) -> str:
        key = columns.tobytes() + values.tobytes()
        if key not in seen:
            cells = (f"{c}" if v == 1 else f"{c}:{v:.6g}" for c, v in zip(columns, values))
            seen[key] = f"|{space.name} {' '.join(cells)}"
        return seen[key]

    return starmap(text, space.rows())


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """Keep this thread, and the parser thread it starts, on the first `count` cores it may use."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def described(settings: Settings) -> str:
    """The settings in one short line: `ftrl alpha 0.3, beta 0.5; ub ma`."""
    knobs = ", ".join(f"{re.sub('^ftrl_', '', name)} {value:.4g}" for name, value in settings.knobs)
    crossed = re.sub(r"-q |--", "", settings.interactions) or "no interactions"
    return f"{settings.learner} {knobs}; {crossed}; {settings.bits} bits; {settings.spaces}"
