"""Keeping a model fresh slice by slice: what each way of training predicts for a slice before it has seen it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nearline as nl
from experiments import _processes
from nearline.features import Design
from nearline.glmix import FixedLag

Floats = NDArray[np.float64]
WINDOW = 3
"""Slices of the sliding window."""


@dataclass(frozen=True)
class Size:
    """How much of the experiment is run."""

    slices: int
    rows: int
    events: int
    draws: int

    @classmethod
    def of(cls, quick: bool, rows: int) -> Size:
        """The full size, or one to see it run."""
        return cls(4, min(rows, 6_000), 4_000, 20) if quick else cls(20, rows, 60_000, 500)


@dataclass(frozen=True)
class Case:
    """A data set with a model for it; rows are in order of time, and `cluster` is the column whose values are drawn."""

    table: Any
    model: nl.GLMix
    cluster: str | None = None


def movielens(size: Size, seed: int) -> Case:
    """Who likes which film: users on film features, films on user features."""
    table = nl.datasets.movielens_1m(ratings="no_threes").slice(0, size.rows)
    kinds = {"age": nl.Categorical(), "occupation": nl.Categorical()}
    user, film = ("gender", "age", "occupation"), ("genres", "year")
    model = nl.GLMix(
        nl.Schema(label="liked", time="timestamp", columns=kinds),
        fixed=nl.Fixed(*user, *film),
        random=[nl.Random("user_id", on=film), nl.Random("movie_id", on=user)],
        mode="minibatch",
    )
    return Case(table, model, "user_id")


def bank(size: Size, seed: int) -> Case:
    """Which client subscribes: strong drift from 2008 to 2010. How long a call took is known afterwards."""
    table = nl.datasets.bank_marketing().slice(0, size.rows)
    on = (
        "age",
        "marital",
        "default",
        "balance",
        "housing",
        "loan",
        "contact",
        "campaign",
        "previous",
        "poutcome",
        "month",
    )
    random = [nl.Random("job", on=["contact", "housing"]), nl.Random("education", on=["contact", "poutcome"])]
    return Case(table, nl.GLMix(nl.Schema(label="y", time="timestamp"), nl.Fixed(*on), random, mode="minibatch"))


def market(size: Size, seed: int) -> Case:
    """Which ad is clicked: coefficients that drift, two shocks, ads that come and go."""
    config = nl.simulate.Marketplace(events=size.events, members=1_000, ads=200, seed=seed)
    fixed = nl.Fixed("country", "device", "age_group", "category", "price")
    random = [nl.Random("member_id", on=["category", "price"]), nl.Random("ad_id", on=["device", "age_group"])]
    schema = nl.Schema(label="clicked", time="timestamp")
    return Case(nl.simulate.stream(config), nl.GLMix(schema, fixed, random, mode="minibatch"))


CASES: dict[str, Callable[[Size, int], Case]] = {"MovieLens-1M": movielens, "Bank Marketing": bank, "simulator": market}
SEEDED = ("simulator",)
"""Data sets of which there is one per seed; the others are one stream each."""


@dataclass(frozen=True)
class Run:
    """Losses of every row that was predicted, and processor seconds of every training, by method."""

    loss: dict[str, Floats] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    slice_of: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    cluster: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def means(self) -> dict[str, float]:
        """Mean log loss by method."""
        return {method: float(loss.mean()) for method, loss in self.loss.items()}

    def drawn_means(self, draws: int, seed: int = 0) -> dict[str, Floats]:
        """Mean log losses (draws) by method of bootstrap samples that draw whole clusters of rows."""
        _, code, size = np.unique(self.cluster, return_inverse=True, return_counts=True)
        sums = np.stack([np.bincount(code, loss) for loss in self.loss.values()])
        rng, found = np.random.default_rng(seed), []
        for _ in range(draws):
            times = np.bincount(rng.integers(0, len(size), len(size)), minlength=len(size))
            found.append(sums @ times / (size @ times))
        return dict(zip(self.loss, np.transpose(found)))

    def speedup(self, method: str) -> float:
        """Processor time of the last full refit over that of the last update."""
        return self.seconds["refit"][-1] / self.seconds[method][-1]


def gain(loss: Mapping[str, Any], method: str) -> Any:
    """Share of the full refit's log-loss gain over the stale model, of mean losses by method.

    >>> gain({"stale": 0.6, "refit": 0.5, "update": 0.52}, "update").round(6)
    np.float64(0.8)
    """
    return np.divide(loss["stale"] - loss[method], loss["stale"] - loss["refit"])


Train = Callable[[nl.GLMix, Design, int], object]
"""Train a model on what has come up to a row, the newest slice given apart: (model, slice, first row of the slice)."""


METHODS = (
    "stale", "refit", "refit, warm", "window", "warm start", "update", "update, lag 1", "update, ω = 1", "as published",
    "events",
)  # fmt: skip


def measure(names: list[str], size: Size, seeds: int, jobs: int) -> dict[str, list[Run]]:
    """A run of every data set, one per seed of those that have seeds."""
    tasks = [(name, size, seed) for name in names for seed in range(seeds if name in SEEDED else 1)]
    found = list(_processes.each(_run, tasks, jobs))
    return {name: [one for one, task in zip(found, tasks) if task[0] == name] for name in names}


def _run(task: tuple[str, Size, int]) -> Run:
    return run(*task)


def run(name: str, size: Size, seed: int) -> Run:
    """Learn priors and a first model from the first slice, then predict each slice with every method and train."""
    case = CASES[name](size, seed)
    design = case.model.design(case.table, learn=True)[0]
    cuts = np.linspace(0, design.rows, size.slices + 1).astype(int).tolist()
    first = design.take(0, cuts[1])
    case.model.learn_priors(first, rounds=1, walks=False, half_lives=False)
    case.model.fit(first)
    rows = np.arange(cuts[1], design.rows)
    cluster = rows if case.cluster is None else design.entities[case.cluster][rows]
    done = Run(slice_of=np.repeat(np.arange(1, size.slices), np.diff(cuts[1:])), cluster=np.asarray(cluster, np.int64))
    for method in METHODS:
        done.loss[method], done.seconds[method] = _follow(case.model.fork(), design, cuts, method)
    return done


def _follow(model: nl.GLMix, design: Design, cuts: list[int], method: str) -> tuple[Floats, list[float]]:
    """Predict every slice but the first and train, but for the last, whose training nothing would show."""
    train, losses, seconds = ways(model, design, cuts)[method], [], []
    for k in range(1, len(cuts) - 1):
        part = design.take(cuts[k], cuts[k + 1])
        losses.append(_log_loss(part.label, model.predict_proba(part, averaged=True)))
        if k < len(cuts) - 2:
            before = time.process_time()
            train(model, part, k)
            seconds.append(time.process_time() - before)
    return np.concatenate(losses), seconds


def _log_loss(label: Floats, p: Floats) -> Floats:
    kept = np.clip(p, 1e-15, 1 - 1e-15)
    return np.asarray(-np.where(label > 0, np.log(kept), np.log1p(-kept)))


def ways(model: nl.GLMix, design: Design, cuts: list[int]) -> dict[str, Train]:
    """Every method, for one model and stream; they share the priors and the package's own settings."""
    smoother = FixedLag(model, lag=1)

    def upto(k: int, slices: int) -> Design:
        return design.take(cuts[max(k + 1 - slices, 0)], cuts[k + 1])

    return {
        "stale": lambda model, part, k: None,
        "refit": lambda model, part, k: model.fit(upto(k, len(cuts))),
        "refit, warm": lambda model, part, k: model.fit(upto(k, len(cuts)), warm=True, cycles=3),
        "window": lambda model, part, k: model.fit(upto(k, WINDOW)),
        "warm start": lambda model, part, k: warm_start(model, part),
        "update": lambda model, part, k: model.update(part, past_weight="auto"),
        "update, lag 1": lambda model, part, k: smoother.update(part, past_weight="auto"),
        "update, ω = 1": lambda model, part, k: model.update(part),
        "as published": lambda model, part, k: model.update(part, cycles=1),
        "events": lambda model, part, k: model.partial_fit(part, mode="event"),
    }


def warm_start(model: nl.GLMix, part: Design) -> None:
    """The paper's baseline: the newest slice fitted from the old means, no prior but the base one; the rest stays."""
    old = [(block.mean.copy(), block.cov.copy(), block.last.copy(), block.counts.copy()) for block in model.blocks]
    model.fit(part, warm=True)
    for block, arrays in zip(model.blocks, old):
        absent = block.counts[: block.entities] == 0
        for now, before in zip((block.mean, block.cov, block.last, block.counts), arrays):
            now[: block.entities][absent] = before[: block.entities][absent]
