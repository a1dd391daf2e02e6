"""What every benchmark and experiment script shares: pinned threads, ratios measured alternately, bars, the last line.

A script is run from anywhere as `python benchmarks/<name>.py` or `python experiments/<name>.py` and begins

    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

    import numpy as np

    from benchmarks import _report

    def main() -> None:
        args = _report.arguments(__doc__)
        ...
        _report.finish([_report.Bar("auc", 0.8861, 0.88, "", ">=")], args.json)

Thread counts are read by the BLAS and by numba when they load, so `arguments` starts the script again with the
environment pinned when it is not; the order of the imports then does not matter.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table

T = TypeVar("T")

_BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Bar:
    """One measured number against its target: passes when `value direction target`.

    >>> Bar("auc", 0.885, 0.880, "", ">=").passed
    True
    >>> Bar("peak", float("nan"), 1.1, "GB", "<=").passed
    False
    """

    name: str
    value: float
    target: float
    unit: str = ""
    direction: Literal[">=", "<="] = ">="

    @property
    def passed(self) -> bool:
        """Whether the target is met; never for a value that is not a number."""
        return self.value >= self.target if self.direction == ">=" else self.value <= self.target

    def record(self) -> dict[str, object]:
        """The bar as the last line of a script prints it; a value that is not finite becomes null."""
        return {
            "name": self.name,
            "value": _finite(self.value),
            "target": _finite(self.target),
            "unit": self.unit,
            "pass": self.passed,
        }


@dataclass(frozen=True)
class Spread:
    """Median and extremes of repeated measurements.

    >>> Spread.of([3.0, 1.0, 2.0])
    Spread(median=2.0, low=1.0, high=3.0, times=3)
    """

    median: float
    low: float
    high: float
    times: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of at least one number."""
        x = np.sort(np.asarray(list(values), dtype=np.float64))
        return cls(float(np.median(x)), float(x[0]), float(x[-1]), len(x))

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)} .. {number(self.high)})"


@dataclass(frozen=True)
class Ratio:
    """`ours / rival` of two rates measured in turn, so that a slow spell of the machine slows both."""

    ratio: Spread
    ours: Spread
    rival: Spread


def arguments(
    description: str | None, numba_threads: int = 1, choices: Sequence[str] = (), **options: object
) -> argparse.Namespace:
    """Command line with `--json`, `--quick` and a flag for every `options` item, in a process with pinned threads.

    With `choices` the first word says which of them to do, in `args.what`.

    The BLAS gets one thread and numba at most `numba_threads`. An option whose default is a bool is a flag, any other
    takes a value of its default's type.
    """
    _pin(numba_threads)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if choices:
        parser.add_argument("what", choices=choices)
    parser.add_argument("--json", action="store_true", help="print the bars as one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="fewer events and repeats: to see it run, not to quote")
    for name, default in options.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default)
        else:
            parser.add_argument(flag, type=type(default), default=default)
    return parser.parse_args()


def clock(work: Callable[[], T]) -> tuple[float, T]:
    """Wall seconds that `work()` took, and what it returned."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def repeat(work: Callable[[], float], times: int = 5) -> Spread:
    """Spread of `times` measurements; `work` returns the number measured (seconds, or a rate)."""
    return Spread.of([work() for _ in range(times)])


def alternate(ours: Callable[[], float], rival: Callable[[], float], times: int = 5) -> Ratio:
    """Spread of `ours() / rival()`, both rates, measured in turn: ours, rival, ours, rival."""
    pairs = [(ours(), rival()) for _ in range(times)]
    return Ratio(
        Spread.of([a / b for a, b in pairs]), Spread.of([a for a, _ in pairs]), Spread.of([b for _, b in pairs])
    )


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table to show: first column to the left, numbers to the right."""
    shown = Table(title=title, title_justify="left")
    for position, name in enumerate(columns):
        shown.add_column(name, justify="right" if position else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(cell if isinstance(cell, str) else number(cell) for cell in row))
    return shown


def finish(bars: Sequence[Bar], as_json: bool, tables: Sequence[Table] = ()) -> None:
    """Print `tables`, then the bars; with `as_json` the last line is `{"bars": [...]}` and nothing but it."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    for shown in (*tables, _bars(bars)):
        console.print(shown)
    if as_json:
        sys.stdout.flush()
        print(json.dumps({"bars": [bar.record() for bar in bars]}, allow_nan=False), flush=True)


def number(value: object) -> str:
    """A number as people read it.

    >>> [number(x) for x in (0.34079, 1.5, 1234567.8, 12, None)]
    ['0.3408', '1.500', '1,234,568', '12', '']
    """
    if value is None:
        return ""
    if not isinstance(value, float | np.floating):
        return str(value)
    size = abs(float(value))
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 10 else f"{value:.{3 if size >= 1 else 4}f}"


def _bars(bars: Sequence[Bar]) -> Table:
    rows = [
        (b.name, b.value, f"{b.direction} {number(b.target)}", b.unit, "[green]yes" if b.passed else "[red]no")
        for b in bars
    ]
    return table("Bars", ("bar", "measured", "target", "unit", "met"), rows)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _pin(numba_threads: int) -> None:
    """Start the script again when a library may already have chosen its thread count from another environment."""
    wanted = dict.fromkeys(_BLAS, "1") | {"NUMBA_NUM_THREADS": str(numba_threads)}
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        return
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | wanted)
