"""OBFTF on click streams: every rule on every stream, seed and age of the records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks import _report
from experiments import _draw, _kept, _results, _windowed
from experiments._click_streams import STREAMS, Stream
from experiments._estimate import Estimate
from experiments._results import Table
from experiments._windowed import Run, Scored, What
from nearline import select

LAGS = (0, 300)
FULL = "full batch"
WEIGHTED = "pps by cells + leverage + cube"
"""The weighted design that the bars speak of: probabilities from the fresh norms that records and labels let expect,
times how much rests on a row; draws balanced on the errors of each entity, the loss and the recorded sketch."""
SHUFFLED = "pps, records shuffled"
BY_ENTITY = "pps by cells, by entity"

RULES: dict[str, select.Rule | None] = {
    FULL: None,
    "uniform": select.by_name("uniform"),
    "pps": select.by_name("pps"),
    "pps on loss": select.by_name("pps", by="loss"),
    "pps, sorted by error": select.by_name("pps", order="signed_error"),
    "pps + cube": select.by_name("pps", floor=0.05, sampler="cube", balance=("sketch", "loss")),
    "pps by cells": select.by_name("pps", floor=0.1, trust="cells"),
    "pps by cells + cube": select.by_name("pps", floor=0.1, trust="cells", sampler="cube", balance=("sketch", "loss")),
    BY_ENTITY: select.by_name("pps", floor=0.1, trust="cells", order="slice"),
    WEIGHTED: select.by_name(
        "pps",
        floor=0.1,
        trust="cells",
        sampler="cube",
        order="slice",
        balance=("sketch", "loss", "slice_error"),
        leverage=True,
    ),
    SHUFFLED: select.by_name("pps"),
    "cube on sketch": select.by_name("cube", balance=("sketch",)),
    "swap": select.by_name("swap"),
    "stride": select.by_name("stride"),
    "stratified": select.by_name("stratified"),
    "best of 32": select.by_name("best_of"),
    "nearest": select.by_name("nearest"),
    "importance": select.by_name("importance"),
    "with replacement": select.by_name("with_replacement"),
    "poisson": select.by_name("poisson"),
    "label balanced": select.by_name("label_balanced"),
    "gradmatch": select.by_name("gradmatch"),
    "selective backprop": select.by_name("selective_backprop"),
    "stale selective backprop": select.by_name("stale_selective_backprop"),
    "rank power": select.by_name("rank_power"),
    "rank exponential": select.by_name("rank_exponential"),
    "rho loss": select.by_name("rho_loss"),
    "ada selection": select.by_name("ada_selection"),
    "biggest k": select.by_name("biggest_k"),
    "smallest k": select.by_name("smallest_k"),
    "min-k SGD": select.by_name("min_k_sgd"),
}
"""Every selector; `dp` and `milp` solve what `swap` solves to rounding, too slowly for windows of a thousand."""


@dataclass(frozen=True)
class Task:
    """One run: everything follows from it."""

    stream: str
    rule: str
    seed: int
    lag: int
    quick: bool


Runs = dict[Task, Run]
KINDS: tuple[What, ...] = ("raw", "served")
"""The network's own margins, which the bars speak of, and those after the recalibration that a service applies."""


def ctr(args: Any) -> tuple[list[_report.Bar], list[Table], str]:
    """All runs; bars, tables, what to publish."""
    seeds = range(2 if args.quick else args.seeds)
    tasks = [
        Task(stream, rule, seed, lag, args.quick)
        for seed in seeds for stream in STREAMS for lag in LAGS for rule in RULES
        if not (rule == FULL and lag)
    ]  # fmt: skip
    runs = _kept.runs(one, tasks, args.jobs, 4, args.keep, known)
    bars, tables = measured(runs, list(seeds)), [table(runs, stream, list(seeds)) for stream in STREAMS]
    return bars, tables, draw(runs, list(seeds), args.write and not args.quick)


def one(task: Task) -> Run:
    """One run."""
    import torch

    torch.set_num_threads(1)
    return _windowed.run(
        _stream(task.stream, task.seed, task.quick), RULES[task.rule], seed=task.seed, lag=task.lag,
        shuffled=task.rule == SHUFFLED,
    )  # fmt: skip


def known(task: dict[str, Any], run: dict[str, Any]) -> tuple[Task, Run]:
    """A run that was kept."""
    served, raw = Scored(**run.pop("served")), Scored(**run.pop("raw"))
    return Task(**task), Run(served=served, raw=raw, **run)


@lru_cache(maxsize=2)
def _stream(name: str, seed: int, quick: bool) -> Stream:
    return STREAMS[name](seed, quick)


def excess(runs: Runs, stream: str, rule: str, lag: int, seeds: Sequence[int], what: What = "raw") -> Estimate:
    """Log loss over the Bayes rate where it is known, over training on the full batch where not; mean of the seeds."""
    return Estimate.of([over(runs, stream, rule, lag, seed, what) for seed in seeds])


def over(runs: Runs, stream: str, rule: str, lag: int, seed: int, what: What) -> float:
    """The same of one seed."""
    run, full = _of(runs, stream, rule, lag, seed), _of(runs, stream, FULL, 0, seed)
    return run.of(what).loss - (full.of(what).loss if math.isnan(full.floor) else full.floor)


def _of(runs: Runs, stream: str, rule: str, lag: int, seed: int) -> Run:
    quick = next(iter(runs)).quick
    return runs[Task(stream, rule, seed, 0 if rule == FULL else lag, quick)]


def measured(runs: Runs, seeds: Sequence[int]) -> list[_report.Bar]:
    """The bars of the network's own margins, then the same of what is served (`_served`)."""
    served = [replace(bar, name=f"{bar.name}_served") for bar in _bars(runs, seeds, "served")]
    return [*_bars(runs, seeds, "raw"), *served]


def _bars(runs: Runs, seeds: Sequence[int], what: What) -> list[_report.Bar]:
    """The worst stream and age for each; excess over the full batch only where the Bayes rate is known."""
    cells = [(stream, lag) for stream in STREAMS for lag in LAGS]
    known = [(stream, lag) for stream, lag in cells if not math.isnan(_of(runs, stream, FULL, 0, seeds[0]).floor)]

    def worst(than: str, among: Sequence[tuple[str, int]]) -> float:
        return max(
            excess(runs, s, WEIGHTED, lag, seeds, what).mean / excess(runs, s, than, lag, seeds, what).mean
            for s, lag in among
        )

    off = max(abs(_calibration(runs, s, WEIGHTED, lag, seeds, what).mean - 1) for s, lag in cells)
    bars = [
        _report.Bar("excess_vs_uniform", worst("uniform", cells), 0.5, "x", "<="),
        _report.Bar("excess_vs_obftf", worst("swap", cells), 0.5, "x", "<="),
        _report.Bar("excess_vs_full", worst(FULL, known), 2.0, "x", "<="),
        _report.Bar("calibration_worst", off, 0.02, "", "<="),
    ]
    for stream, lag in cells:
        name = f"excess_vs_uniform_{''.join(c if c.isalnum() else '_' for c in stream.lower())}_lag_{lag}"
        bars.append(_report.Bar(name, worst("uniform", [(stream, lag)]), 0.5, "x", "<="))
    return bars


def _calibration(runs: Runs, stream: str, rule: str, lag: int, seeds: Sequence[int], what: What) -> Estimate:
    return Estimate.of([_of(runs, stream, rule, lag, seed).of(what).calibration for seed in seeds])


def table(runs: Runs, stream: str, seeds: Sequence[int]) -> Table:
    """Every rule on one stream."""
    full = _of(runs, stream, FULL, 0, seeds[0])
    seconds = np.mean([_of(runs, stream, FULL, 0, seed).seconds for seed in seeds])
    rows = []
    for rule in RULES:
        cells = [_cell(excess(runs, stream, rule, lag, seeds, what), 2, 1000) for what in KINDS for lag in LAGS]
        calibration = [_cell(_calibration(runs, stream, rule, lag, seeds, what), 3) for what in KINDS for lag in LAGS]
        share = np.mean([_of(runs, stream, rule, 0, seed).seconds for seed in seeds]) / seconds
        backwards = _of(runs, stream, rule, 0, seeds[0]).backwards / full.backwards
        rows.append((rule, *cells, *calibration, f"{backwards:.3f}", f"{share:.2f}"))
    against = "the full batch" if math.isnan(full.floor) else "the Bayes rate"
    columns = (
        "rule", "records fresh", "300 steps old", "served: fresh", "300 old", "predicted / actual, fresh", "300 old",
        "served: fresh", "300 old", "backward passes", "seconds",
    )  # fmt: skip
    return Table(
        f"{stream}: log loss over {against}, x 1000; passes and seconds as shares of the full batch", columns, rows
    )


def _cell(estimate: Estimate, digits: int, scale: float = 1.0) -> str:
    """Nothing where it was not measured."""
    return "" if math.isnan(estimate.mean) else estimate.text(digits, scale)


def draw(runs: Runs, seeds: Sequence[int], write: bool) -> str:
    """Excess of every rule as a share of uniform's, by stream; the markdown that shows it."""
    if not write:
        return ""
    rules = [rule for rule in RULES if rule not in (FULL, SHUFFLED)]
    with _draw.figure(_results.FIGURES / "obftf-ctr.svg", len(STREAMS), (12.0, 4.6)) as axes:
        for number, (ax, stream) in enumerate(zip(axes, STREAMS)):
            for lag, colour in zip(LAGS, (_draw.BLUE, _draw.ORANGE)):
                base = excess(runs, stream, "uniform", lag, seeds).mean
                share = [excess(runs, stream, rule, lag, seeds).mean / base for rule in rules]
                ax.plot(np.clip(share, 0, 4), range(len(rules)), "o", color=colour, label=f"records {lag} steps old")
            ax.axvline(1.0, color=_draw.GREY, lw=0.8)
            ax.axvline(0.5, color=_draw.GREEN, lw=0.8, ls=":")
            ax.set_yticks(range(len(rules)), rules if number == 0 else [""] * len(rules))
            ax.invert_yaxis()
            ax.set_xlim(-0.1, 4.2)
            ax.set_title(stream, fontsize=9)
            ax.set_xlabel("excess / uniform's (4 and above at 4)")
        axes[0].legend(fontsize=7)
    return "![Excess log loss of every rule as a share of uniform's](figures/obftf-ctr.svg)"
