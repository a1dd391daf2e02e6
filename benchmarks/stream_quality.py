"""Quality on a real stream: nearline against VW, river and scikit-learn on MovieLens-1M, predict then learn, one pass.

Every tool is tuned on the first 10 % of the events only: nearline learns its priors, noise and half-lives there, the
rivals search their settings there. VW's figure is the better of its winner and its shortlist on the whole stream,
chosen in hindsight. Then nearline again, updated only every k events or once a day: what freshness is worth.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import _movielens, _report
from benchmarks._rivals import _river, _sklearn, _vw, _vw_search
from benchmarks._rivals._events import Events, from_table
from nearline.evaluate import auc, log_loss

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "figures" / "freshness.svg"
# Events between two re-estimates of the priors from the live posteriors, in the row that has them.
REFRESH = 10_000
INTERVALS: list[int | str] = [1, 10, 100, 1_000, 10_000, 100_000, "1d"]


def main() -> None:
    args = _report.arguments(__doc__, rivals=True, figure=False)
    table = _movielens.events()
    if args.quick:
        table = table.slice(0, 100_000)
    stream = from_table(table)
    model = _movielens.model()
    learned = model.learn_priors(table.slice(0, table.num_rows // 10), progress=sys.stderr.isatty())
    change = f"{learned.before:.4f} -> {learned.after:.4f} in {learned.evaluations} replays"
    print(f"priors learned from the first 10 %: {change}")
    for name, belief in learned.beliefs.items():
        print(f"  {name}: {belief.prior}, {belief.forgetting}")

    curve: dict[int | str, tuple[float, float]] = {}
    design, _ = model.design(table, learn=True)
    for every in INTERVALS:
        margin = model.fork().progressive(design, every=every).margin
        p = 1 / (1 + np.exp(-margin))
        curve[every] = auc(design.label, p), log_loss(design.label, p)
    refreshing = model.fork()
    refreshing.refresh_every = REFRESH
    p = 1 / (1 + np.exp(-refreshing.progressive(design).margin))
    refreshed_auc, refreshed_loss = auc(design.label, p), log_loss(design.label, p)
    vw_auc, vw_loss, vw_tuned, rows = vw(stream, args.quick)
    others = [] if args.quick or not args.rivals else list(rivals(stream))

    ours_auc, ours_loss = curve[1]
    gain = 1 - ours_loss / vw_loss
    bars = [
        _report.Bar("log_loss_gain_vs_best_vw", gain, 0.02, "relative"),
        _report.Bar("auc", ours_auc, 0.880),
        _report.Bar("log_loss", ours_loss, 0.98 * vw_loss, "nats", "<="),
        _report.Bar("log_loss_gain_vs_vw_as_tuned", 1 - ours_loss / vw_tuned, 0.02, "relative"),
        _report.Bar("log_loss_gain_vs_best_vw_refreshed", 1 - refreshed_loss / vw_loss, 0.02, "relative"),
        _report.Bar("auc_refreshed", refreshed_auc, 0.880),
        *(_report.Bar(f"auc_interval_{every}", value[0], 0.0) for every, value in curve.items()),
        *(_report.Bar(f"log_loss_interval_{k}", value[1], float("inf"), "nats", "<=") for k, value in curve.items()),
    ]
    tables = [
        _report.table("One pass over MovieLens-1M", ("tool", "log loss", "AUC"), [
            ("nearline", ours_loss, ours_auc),
            ("nearline, priors refreshed online", refreshed_loss, refreshed_auc),
            *rows, *others,
        ]),
        _report.table("nearline by update interval", ("updated every", "log loss", "AUC"), [
            (_interval(every), value[1], value[0]) for every, value in curve.items()
        ]),
    ]  # fmt: skip
    if args.figure:
        draw(curve, ("best VW", vw_auc, vw_loss))
    _report.finish(bars, args.json, tables)


def vw(stream: Events, quick: bool) -> tuple[float, float, float, list[tuple[str, float, float]]]:
    """VW's searched settings on the whole stream: the best one's AUC and log loss, the winner's of the search on
    the first 10 %, and a row for each.
    """
    found = _vw_search.search(stream.tenth(), quick)
    rows = []
    for trial in dict.fromkeys([found.best.settings, *(t.settings for t in found.shortlist)]):
        scores = _vw.progressive(trial, stream)
        rows.append((f"VW {_vw.described(trial)}", scores.log_loss(stream.liked), scores.auc(stream.liked)))
    tuned = rows[0][1]
    rows.sort(key=lambda row: row[1])
    _, loss, area = rows[0]
    return area, loss, tuned, rows


def rivals(stream: Events) -> list[tuple[str, float, float]]:
    """The other online learners, river and scikit-learn, each with its searched settings."""
    out = []
    config, _ = _river.search(stream.tenth())[0]
    scores = _river.progressive(config, stream)
    out.append((f"river {config}", scores.log_loss(stream.liked), scores.auc(stream.liked)))
    for batch in (100, 1000):
        best, _ = _sklearn.search(stream.tenth(), batch)[0]
        scores = _sklearn.progressive(best, stream, batch)
        out.append((f"scikit-learn SGD, batches of {batch}", scores.log_loss(stream.liked), scores.auc(stream.liked)))
    return out


def draw(curve: dict[int | str, tuple[float, float]], rival: tuple[str, float, float]) -> None:
    """The README's figure."""
    from nearline.evaluate._plots import save_freshness_figure

    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    save_freshness_figure(FIGURE, [(_interval(every), *value) for every, value in curve.items()], rival)


def _interval(every: int | str) -> str:
    return f"{every:,} events" if isinstance(every, int) and every > 1 else "event" if every == 1 else "day"


if __name__ == "__main__":
    main()
