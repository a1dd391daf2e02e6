"""Lambda Learner's claims, measured: how much of a batch refit's lift an incremental update keeps, and at what price.

Four parts: a simulation with known truth (stationary and drifting), MovieLens-100k in time order with per-movie models,
the same with all blocks, and training time against refits at 10, 50 and 200 mini-batches. Lift is AUC above the fixed
effect, as a share of what refitting on all data so far gains; every row is predicted before it is learned. `--write`
renews the figures and the section of docs/results.md.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import _report
from experiments import _all_blocks, _by_movie, _lambda_page, _ml100k, _results, _simulation
from experiments._estimate import Estimate
from experiments._lambda_page import RHOS, Movies, Simulated

LAMBDAS = (1.0, 3.0, 10.0, 30.0)
TIMED = {10: 2, 50: 1, 200: 1}
"""How often each number of mini-batches is timed."""


@dataclass(frozen=True)
class Size:
    """How much of the experiment is run."""

    seeds: int
    setting: _simulation.Setting
    rows: int
    timed: Mapping[int, int]
    cuts: tuple[int, ...] = (10, 50)
    draws: int = 200
    rounds: int = 4

    @classmethod
    def of(cls, quick: bool) -> Size:
        """The full size, or one to see it run."""
        if quick:
            return cls(2, _simulation.Setting(entities=40, batches=7, first=4), 8_000, {10: 1}, (10,), 20, 1)
        return cls(5, _simulation.Setting(), 100_000, TIMED)


def main() -> None:
    args = _report.arguments(__doc__, write=False)
    size = Size.of(args.quick)
    simulated = simulate(size)
    events = _ml100k.table().slice(0, size.rows)
    stream = _by_movie.Stream.of(events)
    movies = {cut: _by_movie.run(stream, 1.0, cut, [*_by_movie.RULES, *_by_movie.OTHERS]) for cut in size.cuts}
    lambdas = {p: _by_movie.run(stream, p, 20, ["stale", "full 1", "full .95", "diag 1", "refit"]) for p in LAMBDAS}
    blocks = {cut: _all_blocks.run(events, cut) for cut in size.cuts}
    times = {cut: timed(stream, cut, repeats) for cut, repeats in size.timed.items()}
    tables = [
        _lambda_page.simulation_table(simulated, drift=False),
        _lambda_page.simulation_table(simulated, drift=True),
        _lambda_page.movie_table(stream, movies),
        _lambda_page.lambda_table(stream, lambdas, size.draws),
        _lambda_page.prior_table(stream, size.rounds),
        _lambda_page.blocks_table(stream.label, blocks, _all_blocks.every_event(events).margin),
        _lambda_page.time_table(times),
    ]
    bars = measured(stream, simulated, lambdas, times)
    if not args.quick:
        verdict = _lambda_page.compare(stream.label, simulated, movies, lambdas, blocks)
        print("Against the reference measurements:", *verdict, sep="\n")
        if args.write:
            _lambda_page.draw(simulated, stream, lambdas[10.0])
            _results.write_section("lambda_learner", _lambda_page.section(bars, tables, verdict))
    _report.finish(bars, args.json, [table.shown() for table in tables])


def simulate(size: Size) -> Simulated:
    """Every rule's lift, over seeds, by ρ and drift."""
    found: Simulated = {}
    for rho in RHOS:
        for drift in (False, True):
            runs = [_simulation.lifts(seed, rho, drift, size.setting) for seed in range(size.seeds)]
            found[rho, drift] = {rule: Estimate.of(run[rule] for run in runs) for rule in runs[0]}
    return found


def timed(stream: _by_movie.Stream, batches: int, repeats: int) -> tuple[float, float]:
    """(seconds of updates, seconds of refits) over the second half, λ = 1; the quickest of the repeats."""
    runs = [_by_movie.run(stream, 1.0, batches, ["full 1", "refit"]) for _ in range(repeats)]
    return min(run["full 1"].seconds for run in runs), min(run["refit"].seconds for run in runs)


def measured(
    stream: _by_movie.Stream, simulated: Simulated, lambdas: Movies, times: Mapping[int, tuple[float, float]]
) -> list[_report.Bar]:
    """The bars."""
    kept = [simulated[rho, False]["full 1"].mean for rho in RHOS]
    movie = [_by_movie.lift(stream.label, lambdas[penalty], "full 1") for penalty in (1.0, 3.0, 10.0)]
    gains = {rule: worst_gain(simulated, rule) for rule in ("learned", "full .8")}
    return [
        _report.Bar("lift_captured_simulation", min(kept), 0.99, "of the refit's lift"),
        _report.Bar("lift_captured_ml100k_movie", min(movie), 0.99, "of the refit's lift"),
        _report.Bar("drift_gain_over_refit", gains["learned"].mean, 0.0, "of the refit's lift"),
        _report.Bar("drift_gain_low", gains["learned"].mean - gains["learned"].half, 0.0, "95 % interval"),
        _report.Bar("drift_gain_delta_0.8", gains["full .8"].mean, 0.0, "of the refit's lift"),
        *(_report.Bar(f"time_ratio_{cut}", refit / update, 1.0, "x") for cut, (update, refit) in times.items()),
    ]


def worst_gain(simulated: Simulated, rule: str) -> Estimate:
    """Lift above the refit's under drift, at the ρ where it is smallest."""
    worst = min((simulated[rho, True][rule] for rho in RHOS), key=lambda estimate: estimate.mean)
    return Estimate(worst.mean - 1.0, worst.sd, worst.half, worst.runs)


if __name__ == "__main__":
    main()
