"""The simulated stream: 600 entities, 25 mini-batches of 20 rows each, coefficients that stay or drift.

What each way of updating keeps of the AUC that refitting every entity on all its data adds to the offsets alone, over
the last 13 mini-batches.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

import nearline as nl
from experiments import _serve
from experiments._estimate import rank
from nearline import simulate
from nearline.evaluate import lift_captured
from nearline.features import Design

Posterior = Literal["full", "diagonal"]
FEATURES = tuple(f"x{j}" for j in range(1, 10))
SCHEMA = nl.Schema(
    label="y", time="batch", offset="offset", columns={x: nl.Numeric(center=0.0, scale=1.0) for x in FEATURES}
)
# a² = 1 − qλ per mini-batch, with q = .02 and λ = 1: half-life in mini-batches.
DRIFT_HALF_LIFE = -np.log(2) / (0.5 * np.log(1 - 0.02))


@dataclass(frozen=True)
class Setting:
    """How large the simulation is; `first` is the first mini-batch that counts."""

    entities: int = 600
    batches: int = 25
    first: int = 12


def rules() -> dict[str, tuple[Posterior, nl.Forgetting]]:
    """Posterior and forgetting of every rule that streams."""
    deltas = {"1": 1.0, ".95": 0.95, ".8": 0.8}
    kinds: dict[str, Posterior] = {"full": "full", "diag": "diagonal"}
    found = {
        f"{short} {name}": (kind, nl.Forgetting(form="per_update", delta=delta))
        for short, kind in kinds.items()
        for name, delta in deltas.items()
    }
    return found | {"drift q=.02": ("full", nl.Forgetting(half_life=DRIFT_HALF_LIFE))}


def model(posterior: Posterior = "full", forgetting: nl.Forgetting | None = None) -> nl.GLMix:
    """One random effect on an intercept and nine features, λ = 1 on all; the offset stands for the fixed effect."""
    effect = nl.Random("entity", on=FEATURES, prior=nl.Prior(1.0), posterior=posterior, forgetting=forgetting)
    return nl.GLMix(SCHEMA, fixed=nl.Fixed(intercept=False), random=[effect], mode="minibatch")


def lifts(seed: int, rho: float, drift: bool, setting: Setting, learned: bool = True) -> dict[str, float]:
    """Lift of every rule, as a fraction of the refit's."""
    tables = _tables(seed, rho, drift, setting)
    base = model()
    design = base.design(pa.concat_tables(tables), learn=True)[0]
    cuts = np.linspace(0, design.rows, setting.batches + 1).astype(int).tolist()
    last = cuts[setting.first :]
    margins = {"fixed": design.offset[last[0] :], "refit": _serve.refit(base, design, last).margin}
    for name, rule in rules().items():
        margins[name] = _streamed(_ready(model(*rule), tables[0]), design, cuts, setting)
    margins["stale"] = _streamed(_ready(model(), tables[0]), design, cuts, setting, _serve.nothing)
    if learned:
        margins["learned"] = _streamed(_learned(tables, setting), design, cuts, setting)
    scores = {name: _mean_auc(design.label[last[0] :], margin, last) for name, margin in margins.items()}
    return {name: lift_captured(score, scores["fixed"], scores["refit"]) for name, score in scores.items()}


def _tables(seed: int, rho: float, drift: bool, setting: Setting) -> list[Any]:
    data = simulate.random_effects(seed, rho, drift, entities=setting.entities, batches=setting.batches)
    tables = [data.table(b) for b in range(setting.batches)]
    return [t.append_column("batch", pa.array(np.full(t.num_rows, float(b)))) for b, t in enumerate(tables)]


def _ready(found: nl.GLMix, first: Any) -> nl.GLMix:
    """Meet the entities and features, in the order in which the design's encoder met them."""
    found.design(first, learn=True)
    return found


def _streamed(
    found: nl.GLMix, design: Design, cuts: list[int], setting: Setting, learn: _serve.Learn = _serve.update
) -> Any:
    found.fit(design.take(0, cuts[1]), cycles=1)
    for start, stop in itertools.pairwise(cuts[1 : setting.first + 1]):
        learn(found, design.take(start, stop))
    return _serve.stream(found, design, cuts[setting.first :], learn).margin


def _learned(tables: list[Any], setting: Setting) -> nl.GLMix:
    """Prior and half-life by one-step-ahead loss: a third of the entities, mini-batches before those that count."""
    found = _ready(model(forgetting=nl.Forgetting(half_life=50.0)), tables[0])
    third = tables[0].num_rows // 3
    history = pa.concat_tables([table.slice(0, third) for table in tables[: setting.first]])
    found.learn_priors(history, rounds=2, structure="scalar", walks=False)
    return found


def _mean_auc(label: Any, margin: Any, last: list[int]) -> float:
    """AUC pooled over entities, mean over mini-batches."""
    places = [cut - last[0] for cut in last]
    return float(np.mean([rank(label[a:b], margin[a:b]) for a, b in itertools.pairwise(places)]))
