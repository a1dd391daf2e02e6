"""The demo's summary: what was served, against models that were not kept fresh and the best possible score."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.cli import _backtest, _progress, _show
from nearline.cli._drive import Seen
from nearline.config import Config
from nearline.evaluate import Backtest, Outcome, Variant
from nearline.glmix import GLMix, Scorer
from nearline.simulate import Traffic
from nearline.store import Registry, Version

Floats = NDArray[np.float64]

RECOVERY_SECONDS, RECOVERY_WINDOW = 20.0, 10.0
REFIT_SECONDS = 3600.0
TARGETS = {"recovered_share": (0.9, "", True), "fresh_p99_ms": (1000.0, "ms", False)}


def conclude(
    config: Config, traffic: Traffic, seen: Seen, status: dict[str, Any], began: float, out: Path, as_object: bool
) -> None:  # fmt: skip
    """Table, sentence, freshness and report; with `as_object` the bars as one JSON object instead."""
    if not seen.served:
        raise StateError(f"no request was answered: {'; '.join(seen.failed) or 'none was sent'}; see {out}/service.log")
    with _progress.phases(as_object) as say:
        say("comparing with models that were not kept fresh", 0.0)
        rows = Rows.of(seen, began)
        result = compare(config, traffic, rows)
        say("writing the report", 0.0)
        report = _backtest.write(result, out / "report.html")
    share = recovered(rows, result, traffic)
    fresh = _percentiles(seen.fresh_ms + seen.unseen_ms)
    if not as_object:
        console = _show.console()
        console.print(_show.as_table(result))
        console.print(_show.conclusion(result), style="bold")
        if math.isfinite(share):
            console.print(
                f"Within {RECOVERY_SECONDS:.0f} s after the shock the live model won back {share:.0%} of what the "
                "stale one lost to the best possible score."
            )
        console.print(
            f"As its clients saw it, an outcome was used in predictions {fresh[50]:.0f} ms after it was acknowledged "
            f"(median); 95 % within {fresh[95]:.0f} ms, 99 % within {fresh[99]:.0f} ms."
        )
        if status:
            console.print(f"Outcomes: {_joined(status)}.")
        if seen.overloaded:
            console.print(f"{seen.overloaded:,} requests were more than the service could take (429).", style="yellow")
        for words, times in seen.failed.items():
            console.print(f"{times:,} requests failed: {words}", style="red")
        console.print(f"report: {report}")
        return
    bars = [_bar("recovered_share", share), _bar("fresh_p99_ms", fresh[99])]
    bars.append({"name": "fresh_p50_ms", "value": _finite(fresh[50]), "target": 200.0, "unit": "ms",
                 "pass": fresh[50] <= 200.0})  # fmt: skip
    print(json.dumps({"bars": bars, "variants": result.table(), "report": str(report)}))


def _bar(name: str, value: float) -> dict[str, Any]:
    target, unit, higher = TARGETS[name]
    passed = value >= target if higher else value <= target
    return {"name": name, "value": _finite(value), "target": target, "unit": unit, "pass": bool(passed)}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


class Rows:
    """Everything that was served, in order of time: features, truth, what was predicted and what happened."""

    def __init__(
        self, table: pa.Table, at: Floats, served: Floats, truth: Floats, label: Floats, updates: int
    ) -> None:  # fmt: skip
        self.table, self.at, self.served, self.truth, self.label = table, at, served, truth, label
        self.updates = updates

    @classmethod
    def of(cls, seen: Seen, began: float) -> Rows:
        """Rows of all answered requests; times are on the wall clock that the history ends at."""
        served = sorted(seen.served, key=lambda one: one.at)
        at = np.concatenate([np.full(len(one.label), one.at) for one in served])
        label = np.concatenate([one.label for one in served])
        table = pa.concat_tables([one.rows for one in served])
        table = table.append_column("timestamp", pa.array(began + at)).append_column("clicked", pa.array(label))
        p = np.concatenate([one.probability for one in served])
        updates = len({one.position for one in served}) - 1
        return cls(table, at, p, np.concatenate([one.truth for one in served]), label, updates)


def compare(config: Config, traffic: Traffic, rows: Rows) -> Backtest:
    """Nearline as it was served, the stale model, its fixed effect, and one refitted every hour of the marketplace."""
    registry = Registry(config.running().folder, clock=time.time)
    stale = GLMix.load(registry.path(Version(1)))
    registry.close()
    history = config.table()
    design, _ = stale.design(rows.table, learn=False)
    hour = REFIT_SECONDS / traffic.warp
    refits, times = refitted(stale, history, rows, hour)
    refit = Variant(f"refit every hour ({hour:.0f} s here)", "nothing", refit=f"{hour:.6g}s")
    often = f"{(rows.at[-1] - rows.at[0]) / max(1, rows.updates):.6f}s"
    p = np.clip(rows.served, 1e-12, 1 - 1e-12)
    outcomes = (
        Outcome(Variant("nearline, as served", every=often), np.log(p / (1 - p)), 0.0, rows.updates),
        *([Outcome(refit, refits, 0.0, times)] if times else []),
        Outcome(Variant("stale batch", "nothing"), stale.decision_function(design), 0.0, 0),
        Outcome(Variant("fixed effect only", "nothing"), Scorer(stale, "stale").score(design).fixed, 0.0, 0),
    )  # fmt: skip
    entities = {str(key): codes for key, codes in design.entities.items()}
    return Backtest(
        "live marketplace", "logit", rows.label, np.ones(len(rows.label)), design.time, entities, history.num_rows,
        outcomes, rows.truth, None, served=True,
    )  # fmt: skip


def refitted(stale: GLMix, history: pa.Table, rows: Rows, every: float) -> tuple[Floats, int]:
    """Scores of a model that learns everything anew once in `every` seconds, and how often it did."""
    margin, times = np.empty(len(rows.at)), 0
    names = [name for name in history.column_names if name in rows.table.column_names]
    model = stale
    for hour in range(int(rows.at[-1] // every) + 1 if len(rows.at) else 0):
        first, last = np.searchsorted(rows.at, [hour * every, (hour + 1) * every])
        if hour:
            model = stale.replica()
            model.reset()
            model.partial_fit(pa.concat_tables([history.select(names), rows.table.slice(0, first).select(names)],
                                               promote_options="permissive"))  # fmt: skip
            times += 1
        if last > first:
            margin[first:last] = model.decision_function(rows.table.slice(first, last - first))
    return margin, times


def recovered(rows: Rows, result: Backtest, traffic: Traffic) -> float:
    """Share of the stale model's excess log loss that the live one is free of, from 20 to 30 s after the shock.

    (stale − live) / (stale − best), each the expected log loss under the marketplace's true probabilities.
    """
    if traffic.shock_at is None:
        return math.nan
    begin = traffic.shock_at + RECOVERY_SECONDS
    chosen = (rows.at >= begin) & (rows.at < begin + RECOVERY_WINDOW)
    if not chosen.any():
        return math.nan
    truth = rows.truth[chosen]
    live, stale = (_expected(truth, result.prediction(n)[chosen]) for n in ("nearline, as served", "stale batch"))
    return (stale - live) / (stale - _expected(truth, truth))


def _expected(truth: Floats, p: Floats) -> float:
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return float(-(truth * np.log(p) + (1 - truth) * np.log1p(-p)).mean())


def _percentiles(milliseconds: list[float]) -> dict[int, float]:
    points = (50, 95, 99)
    if not milliseconds:
        return dict.fromkeys(points, math.nan)
    return dict(zip(points, np.percentile(milliseconds, points).tolist()))


def _joined(status: dict[str, Any]) -> str:
    joins = status.get("joins", {})
    names = ("learned", "pending", "late", "corrected", "quarantined")
    return ", ".join(f"{joins[name]:,} {name}" for name in names if name in joins)
