"""The outcome of a backtest: as a table with a conclusion for people, as one object for machines."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from nearline import evaluate
from nearline.evaluate import Backtest

# Column of the table, its heading and how a number is written.
FORMATS = {
    "log_loss": ("log loss", "{:.4f}"), "auc": ("AUC", "{:.4f}"), "deviance": ("deviance", "{:.4f}"),
    "rmse": ("RMSE", "{:.4f}"), "calibration": ("calib.", "{:.3f}"), "updates": ("updates", "{:,}"),
    "seconds": ("seconds", "{:,.2f}"), "events_per_s": ("events/s", "{:,.0f}"),
}  # fmt: skip
COSTS = "; seconds: to predict these events and to learn from them"
LOSSES = ("log_loss", "deviance", "rmse")


def as_table(result: Backtest) -> Table:
    """The variants side by side, the best loss in bold, with the loss of the truth where it is known."""
    rows = result.table()
    further = {metric.name: (metric.label, "{:.4f}") for metric in result.further()}
    formats = FORMATS | further
    names = [name for name in rows[0] if name in formats]
    table = Table(
        title=f"{result.title}: {len(result.label):,} events {'served' if result.served else 'predicted'}, "
        f"then learned, after {result.history_rows:,} of history",
        title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False,
        caption="calib.: mean prediction over mean label" + ("" if result.served else COSTS),
        caption_justify="left",
    )  # fmt: skip
    table.add_column("variant", no_wrap=True)
    for name in names:
        table.add_column(formats[name][0], justify="right", no_wrap=name in FORMATS)
    best = winner(rows)
    for row in rows:
        table.add_row(
            row["variant"], *(_cell(formats[name][1], row[name]) for name in names), style="bold" if row is best else ""
        )
    truth = of_the_truth(result)
    if truth is not None:
        table.add_section()
        table.add_row(
            "best possible (truth)", *(_cell(formats[name][1], truth.get(name)) for name in names), style="dim"
        )
    return table


def _cell(form: str, value: float | None) -> str:
    return "" if value is None else form.format(value)


def of_the_truth(result: Backtest) -> dict[str, float] | None:
    """Metrics of the Bayes-optimal probability, None where the stream does not know it."""
    if result.truth is None or result.link != "logit":
        return None
    y, p, w = result.label, result.truth, result.weight
    return {
        "log_loss": evaluate.log_loss(y, p, w), "auc": evaluate.auc(y, p, w),
        "calibration": evaluate.calibration_ratio(y, p, w),
    }  # fmt: skip


def winner(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of smallest loss."""
    return min(rows, key=lambda row: float(row[_loss(row)]))


def _loss(row: dict[str, Any]) -> str:
    return next(name for name in LOSSES if name in row)


def conclusion(result: Backtest) -> str:
    """One sentence: which variant predicts best, and by how much against those that do not learn from the stream."""
    rows = result.table()
    best = winner(rows)
    name = _loss(best)
    frozen = {o.variant.name for o in result.outcomes if o.variant.learns == "nothing"}
    others = [row for row in rows if row["variant"] in frozen and row is not best] or [r for r in rows if r is not best]
    gains = [f"{1 - best[name] / row[name]:.1%} below {row['variant']}" for row in others if row[name] > 0]
    first = f"{best['variant']} predicts best: {FORMATS[name][0]} {best[name]:.4f}"
    listed = " and ".join([", ".join(gains[:-1]), gains[-1]] if len(gains) > 1 else gains)
    return f"{first}{', ' if gains else ''}{listed}."


def as_json(result: Backtest, report: Path) -> str:
    """Everything the table shows, in one line; a number that does not exist is null."""
    learned = result.learned
    priors = {"before": learned.before, "after": learned.after, "evaluations": learned.evaluations} if learned else None
    found = {
        "title": result.title, "link": result.link, "rows": len(result.label), "history_rows": result.history_rows,
        "variants": result.table(), "truth": of_the_truth(result), "priors": priors,
        "conclusion": conclusion(result), "report": str(report),
    }  # fmt: skip
    return json.dumps(_finite(found))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def console() -> Console:
    """Standard output: as wide as its terminal, and wide enough for the table where there is none."""
    found = Console(markup=False, highlight=False)
    return found if found.is_terminal else Console(markup=False, highlight=False, soft_wrap=True, width=120)
