"""OBFTF on a regression with outliers: which rules find the line, and what trimming does for them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import _report
from experiments import _draw, _results
from experiments._estimate import Estimate
from experiments._results import Table
from nearline import NearlineWarning, select

Floats = NDArray[np.float64]
NOISE = 0.3
RATIO, WINDOW, STEPS, RATE = 0.1, 128, 400, 0.05

_RULES = (
    "full", "uniform", "swap", "stride", "stratified", "best_of", "nearest", "pps", "cube", "importance",
    "with_replacement", "poisson", "smallest_k", "min_k_sgd", "biggest_k", "rank_power", "rank_exponential",
    "selective_backprop", "ada_selection",
)  # fmt: skip


def regression(args: Any) -> tuple[list[_report.Bar], list[Table], str]:
    """T4 of the specification: y = 2x + 1 + N(0, 0.3²), a share of the labels shifted by 20."""
    seeds = range(2 if args.quick else max(args.seeds, 20))  # a run costs little, and its last windows decide
    shares = (0.0, 0.05)
    found = {
        (rule, trim, share): Estimate.of([test_error(rule, trim, share, seed) for seed in seeds])
        for rule in _RULES for trim in (False, True) for share in shares
    }  # fmt: skip
    rows = [
        (rule, *(found[rule, trim, share].text(3) for share in shares[::-1] for trim in (False, True)))
        for rule in _RULES
    ]  # fmt: skip
    columns = ("rule", "5 % outliers", "5 % outliers, trimmed", "no outliers", "no outliers, trimmed")
    table = Table(f"Test mean squared error; the noise alone is {NOISE**2:.2f}", columns, rows)
    bars = [_report.Bar("trimmed_mse", found["swap", True, 0.05].mean, 0.10, "", "<=")]
    return bars, [table], draw(found) if args.write and not args.quick else ""


def test_error(rule: str, trim: bool, share: float, seed: int) -> float:
    """Error on fresh clean points after plain descent on what the rule chooses of each window."""
    rng, state = np.random.default_rng([4, seed]), select.SelectorState()
    chooser = _chooser(rule, trim)
    slope, intercept = 0.0, 0.0
    for _ in range(STEPS):
        x, y = points(rng, WINDOW, share)
        recorded = slope * x + intercept
        rows, weight = np.arange(WINDOW), np.ones(WINDOW)
        if chooser is not None:
            budget = 1.0 if rule == "full" else RATIO
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NearlineWarning)
                chosen = chooser(select.price_regression(recorded, y), budget, rng, state)
            state, rows, weight = chosen.state, chosen.index, chosen.weight
        if not len(rows):
            continue
        error = slope * x[rows] + intercept - y[rows]
        if chooser is not None:
            state = chooser.learn(state, chosen, select.price_regression(recorded[rows], y[rows]).score)
        slope -= RATE * 2 * float(np.mean(weight * error * x[rows]))
        intercept -= RATE * 2 * float(np.mean(weight * error))
    x, y = points(rng, 10_000, 0.0)
    return float(np.mean((slope * x + intercept - y) ** 2))


def points(rng: np.random.Generator, n: int, share: float) -> tuple[Floats, Floats]:
    """Points near the line y = 2x + 1, a share of them 20 above."""
    x = rng.normal(size=n)
    return x, 2 * x + 1 + rng.normal(0.0, NOISE, n) + 20.0 * (rng.random(n) < share)


def _chooser(rule: str, trim: bool) -> select.Policy | None:
    if rule == "full" and not trim:
        return None
    drawn = select.by_name("uniform" if rule == "full" else rule)
    return select.Policy(drawn, task="regression", trim="mad" if trim else None)


def draw(found: dict[tuple[str, bool, float], Estimate]) -> str:
    """Test error with outliers, with and without trimming."""
    with _draw.figure(_results.FIGURES / "obftf-regression.svg", 1, (7.0, 4.2)) as ax:
        for trim, colour, name in ((False, _draw.ORANGE, "as it is"), (True, _draw.BLUE, "trimmed")):
            errors = [found[rule, trim, 0.05].mean for rule in _RULES]
            ax.plot(errors, range(len(_RULES)), "o", color=colour, label=name)
        ax.axvline(NOISE**2, color=_draw.GREY, lw=0.8)
        ax.set_xscale("log")
        ax.set_yticks(range(len(_RULES)), _RULES)
        ax.invert_yaxis()
        ax.set_xlabel("test mean squared error, 5 % outliers; the line is the noise")
        ax.legend()
    return "![Test error by rule, with and without trimming](figures/obftf-regression.svg)"
