"""Reconciliation: a fit published late equals one that was there all along, and nobody sees the seam.

A live loop serves a simulated marketplace (`nearline.simulate.Traffic`: drifting tastes, ads that come and go, delayed
outcomes) by a simulated clock. At a cut-off, 40 % of the way, a new fit is made of what the ledger holds: a `refit` of
the random effects on the global fit, or a whole `fit` with priors learned anew. It is published at 60 %. From there on

* `late` replays what came between on the fit, then swaps,
* `early` was given the fit at its cut-off: what `late` should have become,
* `none` never sees it: the twin without a seam,
* `forgetful` goes over to the fit at once, without a replay, and so loses what came between.

`max_abs_difference`: the largest difference of any posterior mean or covariance of `late` and `early` at the end, over
all seeds and both kinds of fit.

`log_loss_dip`: the mean over the rows that were predicted in the window after the swap (a tenth of the stream) of
ℓ(y, score served by `late`) − ℓ(y, score served by `none`), in nats, averaged over seeds; of the two kinds of fit the
worse. The rows and labels are the same, so what they share cancels. `log_loss_dip_high` is the highest upper end of
the kinds' 95 % intervals over seeds (Student's t). A seam that can be seen is above 0; the bar is 0.002.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks import _report
from experiments import _draw, _processes, _results, _seam
from experiments._estimate import Estimate
from nearline import GLMix
from nearline.loop import History, refit
from nearline.simulate import Delay, Marketplace, Traffic
from nearline.store import Version

Floats = NDArray[np.float64]

CUTOFF, PUBLISHED, WINDOW = 0.4, 0.6, 0.1
"""Shares of the stream: where the fit stops, where it is published, and how long is looked at after that."""
KINDS = ("refit", "fit")
BINS = 40


@dataclass(frozen=True)
class Size:
    """How much is simulated: seconds of traffic, rows per second, rows that priors are learned from."""

    duration: float = 480.0
    rate: float = 50.0
    prior_rows: int = 6_000

    def traffic(self, seed: int) -> Traffic:
        """The stream of one seed."""
        market = Marketplace(members=600, ads=120, campaigns=12, shocks=())
        return Traffic(market, self.duration, self.rate, batch=20, delay=Delay(mean=2.0), seed=seed)


@dataclass(frozen=True)
class Run:
    """Losses by row after the publish, of the same rows served by each; `distance` as `max_abs_difference` has it."""

    kind: str
    late: Floats
    none: Floats
    forgetful: Floats
    distance: float
    replayed: int

    def dip(self, served: Floats, share: float = WINDOW / (1 - PUBLISHED)) -> float:
        """Mean loss above that of the twin without a seam, in the first part of the rows."""
        rows = round(share * len(self.none))
        return float(np.mean(served[:rows] - self.none[:rows]))


def main() -> None:
    args = _report.arguments(__doc__, seeds=8, jobs=1, write=False)
    size = Size(60.0, 40.0, 1_000) if args.quick else Size()
    seeds = range(2 if args.quick else args.seeds)
    runs = list(_processes.each(_once, [(seed, kind, size) for kind in KINDS for seed in seeds], args.jobs))
    bars, tables = judged(runs), [dips(runs)]
    if args.write and not args.quick:
        draw(runs, size)
        _results.write_section("reconcile", section(bars, tables, runs))
    _report.finish(bars, args.json, [table.shown() for table in tables])


def _once(task: tuple[int, str, Size]) -> Run:
    return once(*task)


def once(seed: int, kind: str, size: Size) -> Run:
    """One stream, served four ways."""
    traffic = size.traffic(seed)
    requests, past = list(traffic), _seam.table(traffic.past(_seam.START))
    cut, shown = (round(share * len(requests)) for share in (CUTOFF, PUBLISHED))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        base = learned([past], size)
        _seam.publish(root / "none", _seam.Clock(_seam.START), base, Version(1), {"start": 0, "examples": 0})
        none = _seam.Service(root / "none", _seam.START)
        none.play(requests[:cut])
        cutoff = none.loop.storage.examples.end
        fit = candidate(kind, base, past, none.folder, cutoff, size)
        version = Version(1, 1) if kind == "refit" else Version(2)
        none, early = none.fork(root / "early")
        early.publish(fit, version, cutoff)
        none.play(requests[cut:shown])
        replayed = none.loop.storage.examples.end - cutoff
        none, late, forgetful = none.fork(root / "late", root / "forgetful")
        late.publish(fit, version, cutoff)
        forgetful.publish(fit, version, None)
        early.play(requests[cut:shown])
        losses = [service.play(requests[shown:]) for service in (late, none, forgetful, early)]
        apart = _seam.distance(late.loop.learner.model, early.loop.learner.model)
        for service in (none, late, forgetful, early):
            service.loop.close()
    return Run(kind, *losses[:3], apart, replayed)


def learned(tables: Sequence[pa.Table], size: Size) -> GLMix:
    """A model with priors from the newest rows, that has learned all of them in order."""
    model, newest = _seam.untrained(), max(reversed(tables), key=lambda rows: min(len(rows), size.prior_rows))
    model.learn_priors(newest.slice(max(0, len(newest) - size.prior_rows)), rounds=1)
    for rows in tables:
        model.partial_fit(rows)
    return model


def candidate(kind: str, base: GLMix, past: pa.Table, folder: Path, cutoff: int, size: Size) -> GLMix:
    """What `nearline refit`, or `nearline fit --on both`, makes of the ledger before the cut-off."""
    with History(folder, base) as history:
        rows = history.table(base, 0, cutoff)
    return refit(base, rows).model if kind == "refit" else learned([past, rows], size)


def estimates(runs: Sequence[Run], kind: str, name: str, share: float = WINDOW / (1 - PUBLISHED)) -> Estimate:
    """The dip of `late` or `forgetful` over seeds."""
    return Estimate.of(run.dip(getattr(run, name), share) for run in runs if run.kind == kind)


def judged(runs: Sequence[Run]) -> list[_report.Bar]:
    """The bars."""
    found = [estimates(runs, kind, "late") for kind in KINDS]
    return [
        _report.Bar("max_abs_difference", max(run.distance for run in runs), 1e-9, "", "<="),
        _report.Bar("log_loss_dip", max(each.mean for each in found), 0.002, "nats", "<="),
        _report.Bar(
            "log_loss_dip_high", max(each.mean + each.half for each in found), 0.002, "nats, 95 % interval", "<="
        ),
    ]


def dips(runs: Sequence[Run]) -> _results.Table:
    """Loss above the twin without a seam, by kind of fit, in the window and to the end."""
    rows = []
    for kind in KINDS:
        own = [run for run in runs if run.kind == kind]
        for name, words in (("late", "replay, then swap"), ("forgetful", "no replay")):
            near, far = estimates(runs, kind, name), estimates(runs, kind, name, 1.0)
            replayed = np.mean([run.replayed for run in own]) if name == "late" else 0.0
            rows.append((f"{kind}: {words}", float(replayed), near.text(5), far.text(5)))
    columns = ("published", "examples replayed", "window after the swap", "to the end")
    return _results.Table("Log loss above the twin that never sees the fit (nats)", columns, rows)


def section(bars: Sequence[_report.Bar], tables: Sequence[_results.Table], runs: Sequence[Run]) -> str:
    """The section of the results page."""
    exact, dip, high = bars
    lost = max(estimates(runs, kind, "forgetful").mean for kind in KINDS)
    verdict = (
        f"**{'Confirmed' if exact.passed and dip.passed and high.passed else 'Not confirmed in full'}.** A fit that is "
        f"published late and replayed differs from one that was there from its cut-off by {exact.value:.1g} at most "
        f"({len(runs) // len(KINDS)} seeds). "
        f"In the window after the swap the log loss is {dip.value:+.5f} nats above that of the twin without a seam (at "
        f"most {high.value:+.5f} with 95 % confidence); without the replay it is {lost:+.5f}."
    )
    parts = [
        "**Claim.** Events between the cut-off of a fit and its publication can be reconciled without loss: what is\n"
        "served after the swap is what would have been served had the fit been there from its cut-off, and the seam\n"
        "does not show.",
        "```\npython experiments/reconcile.py --json\n```",
        verdict, _results.bars_table(bars).markdown(), *(table.markdown() for table in tables),
        "![Log loss at the seam](figures/reconcile.svg)",
    ]  # fmt: skip
    return "\n\n".join(parts)


def draw(runs: Sequence[Run], size: Size) -> None:
    """Loss above the twin's after the publish, in bins of equal rows, averaged over seeds."""
    with _draw.figure(_results.FIGURES / "reconcile.svg", len(KINDS), (8.0, 2.8)) as axes:
        for axis, kind in zip(axes, KINDS):
            for name, color in (("forgetful", _draw.ORANGE), ("late", _draw.BLUE)):
                found = [
                    [part.mean() for part in np.array_split(getattr(run, name) - run.none, BINS)]
                    for run in runs if run.kind == kind
                ]  # fmt: skip
                at = np.linspace(PUBLISHED, 1.0, BINS, endpoint=False) * size.duration
                axis.plot(
                    at, np.mean(found, axis=0), color=color, label="no replay" if name == "forgetful" else "replay"
                )
            axis.axhline(0.0, color=_draw.GREY, linewidth=0.8)
            axis.set(title=kind, xlabel="seconds of traffic", ylabel="log loss above no swap")
            axis.legend(frameon=False)


if __name__ == "__main__":
    main()
