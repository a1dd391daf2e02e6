"""Are the defaults that history teaches good enough? Against the best of a 60-trial search, on four data sets.

`learn_priors` and the search get the same first part of each stream and are scored on the rest, row by row before it is
learned. The search starts from the defaults (trial 0) and covers every effect's variances, half-life and noise, and the
structure of priors. "In hindsight" is the trial that would have been best on the rest: nobody could have chosen it.
`--write` renews the figure and the section of docs/results.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import _report
from experiments import _draw, _processes, _results
from experiments._estimate import Estimate
from experiments._results import Table
from nearline import config, datasets
from nearline.tune import Gap, Tuned, judge, tune

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "python experiments/tune.py --json"


@dataclass(frozen=True)
class Stream:
    """A data set, the file that describes its model, and the share that is searched on."""

    name: str
    file: str
    share: float
    rows: int | None = None

    def setup(self) -> config.Config:
        """The configuration."""
        return config.load(ROOT / self.file)

    def table(self, quick: bool) -> Any:
        """The events."""
        if self.name == "MovieLens-1M":
            found = datasets.movielens_1m(ratings="no_threes")
        else:
            found = self.setup().table(self.rows)
        return found.slice(0, found.num_rows // 10) if quick else found


STREAMS = (
    Stream("MovieLens-1M", "src/nearline/cli/movielens.toml", 0.1),
    Stream("Bank Marketing", "examples/bank_marketing.toml", 0.5),
    Stream("Elec2", "examples/elec2.toml", 0.5),
    Stream("marketplace", "src/nearline/cli/marketplace.toml", 0.5, 100_000),
)


@dataclass(frozen=True)
class Run:
    """One search: what it gained, what hindsight would have, and the loss of the declared priors."""

    stream: str
    rows: int
    seed: int
    gap: Gap
    hindsight: Gap
    complete: int
    trials: int


def main() -> None:
    args = _report.arguments(__doc__, trials=60, jobs=1, seeds=2, write=False)
    trials, seeds = (8, 1) if args.quick else (args.trials, args.seeds)
    tasks = [(number, seed, trials, args.quick) for number in range(len(STREAMS)) for seed in range(seeds)]
    runs = list(_processes.each(measured, tasks, args.jobs))
    gaps = {stream.name: [run for run in runs if run.stream == stream.name] for stream in STREAMS}
    bars = bars_of(gaps)
    shown = table(gaps)
    if args.write and not args.quick:
        draw(gaps)
        _results.write_section("tune", section(bars, shown))
    _report.finish(bars, args.json, [shown.shown()])


def measured(task: tuple[int, int, int, bool]) -> Run:
    """One search of one stream."""
    number, seed, trials, quick = task
    stream = STREAMS[number]
    model, events = stream.setup().model(), stream.table(quick)
    found = tune(model, events, trials=trials, share=stream.share, seed=seed)
    return Run(
        stream.name, events.num_rows, seed, found.gap, _hindsight(found, model, events),
        sum(trial.complete for trial in found.trials), len(found.trials),
    )  # fmt: skip


def _hindsight(found: Tuned, model: Any, events: Any) -> Gap:
    gaps = judge(found, model, events, [trial.settings for trial in found.trials if trial.complete])
    return max(gaps, key=lambda gap: gap.estimate)


def bars_of(gaps: dict[str, list[Run]]) -> list[_report.Bar]:
    """The bar is the worst data set's mean over seeds."""
    means = {name: Estimate.of(run.gap.estimate for run in runs).mean for name, runs in gaps.items()}
    each = [_report.Bar(f"gap_{name.lower().replace(' ', '_').replace('-', '_')}", mean, 0.005, "of the log loss", "<=")
            for name, mean in means.items()]  # fmt: skip
    return [_report.Bar("gap_to_best_search", max(means.values()), 0.005, "of the log loss", "<="), *each]


def table(gaps: dict[str, list[Run]]) -> Table:
    """One row per search."""
    rows = [
        (f"{name}, seed {run.seed}", run.rows, run.gap.before, run.gap.after, f"{run.gap.estimate:+.3%}",
         f"{run.gap.low:+.3%} to {run.gap.high:+.3%}", f"{run.hindsight.estimate:+.3%}",
         f"{run.complete} of {run.trials}")
        for name, runs in gaps.items() for run in runs
    ]  # fmt: skip
    columns = ("stream", "rows", "defaults", "best of search", "gap", "95 % interval", "in hindsight", "not pruned")
    return Table("Log loss of the rows behind the searched ones", columns, rows)


def section(bars: list[_report.Bar], shown: Table) -> str:
    """The section of docs/results.md."""
    said = "Confirmed" if bars[0].passed else "Not confirmed"
    verdict = (
        f"**{said}.** The worst of four data sets is {bars[0].value:.2%} of the log loss behind the best of a search."
    )
    figure = "![What a search gains on the learned defaults](figures/tune.svg)"
    return "\n\n".join([_TEXT, verdict, _results.bars_table(bars).markdown(), figure, shown.markdown()])


_TEXT = f"""\
**Claim.** What `learn_priors` finds is within half a percent of log loss of what a 60-trial search finds (TPE,
successive halving), both from the same first part of the stream (a tenth of MovieLens-1M, half of the others),
scored on the rest.

```
{COMMAND}
```

The gap is paired by row; its interval is over forty consecutive parts of the stream, and its sign is positive where the
search is better."""


def draw(gaps: dict[str, list[Run]]) -> None:
    """Gap and its interval of every search, and what hindsight would have gained."""
    runs = [run for found in gaps.values() for run in found]
    with _draw.figure(_results.FIGURES / "tune.svg", 1, (7.2, 0.8 + 0.35 * len(runs))) as axis:
        axis.axvline(0.5, color=_draw.ORANGE, linestyle="--", linewidth=1, label="0.5 %")
        axis.axvline(0.0, color=_draw.GREY, linewidth=1)
        for row, run in enumerate(runs):
            gap = run.gap
            error = [[100 * (gap.estimate - gap.low)], [100 * (gap.high - gap.estimate)]]
            axis.errorbar(100 * gap.estimate, row, xerr=error, color=_draw.BLUE, marker="o", markersize=4, capsize=2,
                          label=None if row else "best of search")  # fmt: skip
            axis.plot(100 * run.hindsight.estimate, row, "|", color=_draw.GREEN, markersize=12,
                      label=None if row else "in hindsight")  # fmt: skip
        axis.set(
            yticks=range(len(runs)), xlabel="log loss gained on the learned defaults, %", ylim=(len(runs) - 0.5, -0.5)
        )
        axis.set_yticklabels([f"{run.stream}, seed {run.seed}" for run in runs], fontsize=8)
        axis.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    main()
