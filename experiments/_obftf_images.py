"""OBFTF on images: test error of every rule at equal backward passes and at equal time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks import _report
from experiments import _draw, _image_data, _kept, _results
from experiments._estimate import Estimate
from experiments._image_training import SKETCH, Course, course
from experiments._obftf_ctr import BY_ENTITY, FULL, RULES, SHUFFLED, WEIGHTED
from experiments._results import Table
from nearline import select

RATIOS = (0.05, 0.1, 0.2, 0.5)
NETWORKS = {"mnist": ("mlp", "cnn"), "cifar": ("resnet",)}
BACKWARDS = {"mnist": 20_000, "cifar": 6_000}
SHOWN = [rule for rule in RULES if rule not in (SHUFFLED, BY_ENTITY, WEIGHTED, "label balanced")]
"""Every rule that has something to say of ten equally frequent classes, and of images that belong to nobody."""


@dataclass(frozen=True)
class Task:
    """One run: everything follows from it."""

    data: str
    network: str
    rule: str
    ratio: float
    seed: int
    device: str
    quick: bool


Courses = dict[Task, Course]


def images(args: Any) -> tuple[list[_report.Bar], list[Table], str]:
    """All runs; a bar for the default rule against uniform draws, tables, what to publish."""
    seeds = range(1 if args.quick else args.seeds)
    tasks = [
        Task(args.what, network, rule, ratio, seed, args.device, args.quick)
        for seed in seeds for network in NETWORKS[args.what] for rule in SHOWN
        for ratio in ((1.0,) if rule == FULL else RATIOS[1:2] if args.quick else RATIOS)
    ]  # fmt: skip
    found = _kept.runs(one, tasks, args.jobs, 2, args.keep, known)
    ratios = sorted({task.ratio for task in tasks if task.rule != FULL})
    tables = [
        table(found, args.what, network, ratios, seeds, at_time)
        for network in NETWORKS[args.what] for at_time in (False, True)
    ]  # fmt: skip
    return bars(found, args.what, ratios, seeds), tables, draw(found, args, ratios, seeds)


def one(task: Task) -> Course:
    """One run."""
    import torch

    torch.set_num_threads(1)
    _warm(task.rule)
    backwards = BACKWARDS[task.data] // (10 if task.quick else 1)
    held = _loaded(task.data, task.device, task.quick)
    return course(held, task.network, RULES[task.rule], task.ratio, task.seed, backwards, task.device)


def known(task: dict[str, Any], course: dict[str, Any]) -> tuple[Task, Course]:
    """A run that was kept."""
    return Task(**task), Course(**{name: tuple(values) for name, values in course.items()})


@lru_cache
def _warm(rule: str) -> None:
    """Let a rule compile what it compiles before the clock runs."""
    chooser = RULES[rule]
    if chooser is not None:
        x = np.linspace(0.1, 1.0, 64)
        known = dict.fromkeys(("loss", "error", "score", "irreducible"), x)
        scores = select.Scores(**known, label=x.round(), sketch=np.outer(x, x[:SKETCH]), lag=0 * x)
        chooser(scores, 8, np.random.default_rng(0))


@lru_cache(maxsize=1)
def _loaded(name: str, device: str, few: bool) -> _image_data.Images:
    return _image_data.load(name, device, few)


def error(found: Courses, network: str, rule: str, ratio: float, at_time: bool) -> Estimate:
    """Test error at the end, or at the time when the first run of this network ended; mean of the seeds."""
    ratio = 1.0 if rule == FULL else ratio
    runs = [c for t, c in found.items() if (t.network, t.rule, t.ratio) == (network, rule, ratio)]
    return Estimate.of([c.error_at(_common(found, network)) if at_time else c.error[-1] for c in runs])


def _common(found: Courses, network: str) -> float:
    return min(c.seconds[-1] for t, c in found.items() if t.network == network)


def table(
    found: Courses, data: str, network: str, ratios: Sequence[float], seeds: Sequence[int], at_time: bool
) -> Table:
    """Every rule of one network."""
    rows = [
        (rule, *(error(found, network, rule, ratio, at_time).text(2, 100) for ratio in ratios))
        for rule in SHOWN
    ]  # fmt: skip
    end = next(c for t, c in found.items() if (t.network, t.rule) == (network, FULL)).backwards[-1]
    when = f"{_common(found, network):.1f} s of choosing and training" if at_time else f"{end:,} backward passes"
    return Table(
        f"{data}, {network}: test error in % after {when} ({len(seeds)} seeds)",
        ("rule", *(f"r = {ratio:g}" for ratio in ratios)),
        rows,
    )


def bars(found: Courses, data: str, ratios: Sequence[float], seeds: Sequence[int]) -> list[_report.Bar]:
    """Test error of the default rule over uniform's at equal backward passes, the worst network and ratio."""
    worst = max(
        error(found, network, "pps", ratio, False).mean / error(found, network, "uniform", ratio, False).mean
        for network in NETWORKS[data] for ratio in ratios
    )  # fmt: skip
    full = max(
        error(found, network, "pps", 0.1, False).mean / error(found, network, FULL, 1.0, False).mean
        for network in NETWORKS[data]
    )
    return [
        _report.Bar(f"{data}_pps_vs_uniform_worst", worst if seeds else math.nan, 1.0, "x", "<="),
        _report.Bar(f"{data}_pps_vs_full_r01", full, 1.0, "x", "<="),
    ]


def draw(found: Courses, args: Any, ratios: Sequence[float], seeds: Sequence[int]) -> str:
    """Error against ratio, one line a rule, the notable ones coloured; the markdown that shows it."""
    if not args.write or args.quick:
        return ""
    networks = NETWORKS[args.what]
    coloured = {"pps": _draw.BLUE, "uniform": _draw.INK, "swap": _draw.ORANGE, "pps by cells + cube": _draw.GREEN}
    with _draw.figure(_results.FIGURES / f"obftf-{args.what}.svg", len(networks), (5.0 * len(networks), 3.6)) as axes:
        for ax, network in zip(axes if len(networks) > 1 else [axes], networks):
            for rule in SHOWN:
                if rule == FULL:
                    ax.axhline(100 * error(found, network, rule, 1.0, False).mean, color=_draw.GREY, ls=":")
                    continue
                line = [100 * error(found, network, rule, ratio, False).mean for ratio in ratios]
                colour = coloured.get(rule)
                ax.plot(
                    ratios, line, color=colour or _draw.GREY, lw=1.6 if colour else 0.6, label=rule if colour else None
                )
            ax.set(title=network, xlabel="ratio r", ylabel="test error, %", xscale="log", yscale="log")
            ax.legend(fontsize=7)
    return f"![Test error by ratio](figures/obftf-{args.what}.svg)"
