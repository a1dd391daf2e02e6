"""Settings by one-step-ahead loss: replay history under candidate priors, walks and half-lives, keep the best.

A coordinate search over the logarithm of each setting, in steps that halve from round to round, followed by
expectation-maximisation steps for the joint shape of each random effect's prior, each kept only if it predicts better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design
from nearline.glmix import _links, _minibatch_step, _priors, _replay
from nearline.glmix._effects import DAY, INTERCEPT, Fixed, Forgetting, PerColumn, Prior, Random, per_column
from nearline.glmix._state import Belief, Block

Floats = NDArray[np.float64]

# The first step multiplies or divides a setting by this; each round takes its square root.
FIRST_STEP = 4.0


@dataclass(frozen=True, slots=True)
class Proof:
    """How much better a candidate must be: by `errors` standard errors over consecutive parts of history, since what
    wins in one spell only does not carry over to the next, and by `gain` of the loss.
    """

    errors: float
    gain: float


MOVE = Proof(1.0, 1e-5)
# Noise and forgetting that were off are new structure, and history is too short to see what they do in the long run.
SWITCH_ON = Proof(3.0, 1e-3)
PARTS = 40
BATCHES = 100
EM_STEPS = 6


@dataclass(frozen=True, slots=True)
class Setting:
    """One number that the search may change: how to read it from a belief and how to write it back."""

    block: Block
    label: str
    read: Callable[[Belief], float]
    write: Callable[[Belief, float], Belief]
    # Tried first when the setting is off (0).
    start: float


@dataclass(frozen=True, slots=True)
class Served:
    """How the model will learn: in which mode, and after how many rows or how much event time.

    Without an interval, events are learned one by one, and minibatches are a hundredth of history.
    """

    mode: str
    every: int | str | None
    threads: int

    def stops(self, design: Design) -> NDArray[np.int64]:
        """Rows up to which a replay has learned, one per update."""
        usual = 1 if self.mode == "event" else -(-design.rows // BATCHES)
        return _replay.stops(design.time, usual if self.every is None else self.every)

    def margin(
        self, blocks: Sequence[Block], n_slots: int, design: Design, link: str, ends: NDArray[np.int64]
    ) -> Floats:
        """Scores (n), each as predicted before its row is learned."""
        if self.mode == "event":
            return _replay.replay(blocks, n_slots, design, link, ends).margin
        return _minibatch_step.replay(blocks, n_slots, design, link, ends, threads=self.threads).margin


class _Search:
    def __init__(
        self, blocks: Sequence[Block], n_slots: int, design: Design, link: str, served: Served,
        tick: Callable[[float], None],
    ) -> None:  # fmt: skip
        self.blocks, self.n_slots, self.design, self.link, self.tick = blocks, n_slots, design, link, tick
        self.evaluations, self.served = 0, served
        self.ends = served.stops(design)
        self.parts = np.linspace(0, design.rows, min(PARTS, design.rows) + 1).astype(np.int64)
        self.weights = np.add.reduceat(design.weight, self.parts[:-1])
        self.best = self.losses()
        self.first = self.mean(self.best)

    def mean(self, losses: Floats) -> float:
        """Mean loss of a row, from the sums over the parts of history."""
        return float(losses.sum() / self.weights.sum()) if self.weights.any() else 0.0

    def losses(self) -> Floats:
        """Progressive loss of history under the blocks' current beliefs, summed over each of its parts."""
        for block in self.blocks:
            block.reset()
        self.evaluations += 1
        margin = self.served.margin(self.blocks, self.n_slots, self.design, self.link, self.ends)
        rows = _links.by_name(self.link).loss(self.design.label, margin)
        sums = np.add.reduceat(rows * self.design.weight, self.parts[:-1])
        self.tick(self.mean(sums))
        return np.where(np.isfinite(sums), sums, np.inf)

    def accepts(self, block: Block, belief: Belief, proof: Proof = MOVE) -> bool:
        """Try a belief for a block; keep it if it predicts better throughout history."""
        old, block.belief = block.belief, belief
        losses = self.losses()
        gains = self.best - losses
        error = float(np.std(gains)) * np.sqrt(len(gains))
        if np.isfinite(losses).all() and gains.sum() > max(proof.errors * error, proof.gain * self.best.sum()):
            self.best = losses
            return True
        block.belief = old
        return False

    def improve(self, setting: Setting, step: float) -> None:
        """Move one setting by factors of `step`, up and then down, while it helps."""
        value = setting.read(setting.block.belief)
        if value == 0.0:
            if not self.accepts(setting.block, setting.write(setting.block.belief, setting.start), SWITCH_ON):
                return
            value = setting.start
        for factor in (step, 1 / step):
            moved = False
            while self.accepts(setting.block, setting.write(setting.block.belief, value * factor)):
                value, moved = value * factor, True
            if moved:
                return


def one_step(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, rounds: int, structure: str, walks: bool,
    half_lives: bool, progress: bool, served: Served,
) -> tuple[float, float, int]:  # fmt: skip
    """Search all settings; returns (loss before, loss after, evaluations) and leaves the best beliefs in the blocks."""
    settings = _settings(blocks, design, structure, walks, half_lives)
    with progress_bar(progress, rounds * len(settings) * 2) as tick:
        search = _Search(blocks, n_slots, design, link, served, tick)
        step = FIRST_STEP
        for _ in range(rounds):
            for setting in settings:
                search.improve(setting, step)
            step = math.sqrt(step)
        if structure == "full":
            _fit_shapes(search)
        return search.first, search.mean(search.best), search.evaluations


def _fit_shapes(search: _Search) -> None:
    """Expectation-maximisation steps on the joint prior of each random effect, and then its scale."""
    for block in search.blocks:
        if isinstance(block.effect, Fixed):
            continue
        # Back to the posteriors of the best beliefs: a rejected trial came last.
        search.losses()
        for _ in range(EM_STEPS):
            touched = np.flatnonzero(block.counts[: block.entities] > 0)
            if len(touched) <= block.d:
                break
            if not search.accepts(block, _priors.em_belief(block, touched, "full", mean=False)):
                search.losses()
                break
        if block.belief.covariance is not None:
            search.improve(Setting(block, f"{block.name}: scale", lambda _: 1.0, scaled(block.belief), 1.0), 2.0)


def scaled(belief: Belief) -> Callable[[Belief, float], Belief]:
    """Write `factor` times the covariance that a belief has now."""

    def write(_: Belief, factor: float) -> Belief:
        assert belief.covariance is not None
        return replace(belief, covariance=belief.covariance * factor)

    return write


def _settings(blocks: Sequence[Block], design: Design, structure: str, walks: bool, half_lives: bool) -> list[Setting]:
    span = float(np.ptp(design.time)) if design.rows else 0.0
    settings: list[Setting] = []
    for block in blocks:
        columns = dict.fromkeys(block.columns)
        together = structure == "scalar" or isinstance(block.effect, Fixed)
        groups = [[*columns]] if together else [[column] for column in columns]
        settings += [_variance(block, group) for group in groups if group]
        # What all rows share drifts, but does not return to zero while nobody looks: noise for it, no half-life.
        if walks and span > 0 and columns and isinstance(block.effect, Fixed):
            settings.append(_walk(block, "walk_per_day", list(columns), 0.01 * DAY / span))
        if not isinstance(block.effect, Random):
            continue
        if walks and INTERCEPT in columns:
            settings.append(_walk(block, "walk_per_event", [INTERCEPT], 0.01))
            if span > 0:
                settings.append(_walk(block, "walk_per_day", [INTERCEPT], 0.1 * DAY / span))
        if half_lives and span > 0 and block.belief.forgetting.form != "per_update":
            settings.append(_half_life(block, span))
    return settings


def _variance(block: Block, columns: Sequence[str]) -> Setting:
    def write(belief: Belief, value: float) -> Belief:
        variance = {column: belief.prior.variance_of(column) for column in dict.fromkeys(block.columns)}
        known = {**_mapping(belief.prior.variance), **variance}
        factor = value / belief.prior.variance_of(columns[0])
        known.update({column: known[column] * factor for column in columns})
        return belief.with_prior(Prior(variance=known, mean=belief.prior.mean))

    return Setting(block, f"{block.name}: variance", lambda b: b.prior.variance_of(columns[0]), write, 1.0)


def _walk(block: Block, field: str, columns: Sequence[str], start: float) -> Setting:
    def read(belief: Belief) -> float:
        return per_column(getattr(belief.forgetting, field), columns[0], 0.0)

    def write(belief: Belief, value: float) -> Belief:
        walk = {**_mapping(getattr(belief.forgetting, field)), **dict.fromkeys(columns, value)}
        changed: dict[str, Any] = {field: walk}
        return replace(belief, forgetting=replace(belief.forgetting, **changed))

    return Setting(block, f"{block.name}: {field}", read, write, start)


def _half_life(block: Block, span: float) -> Setting:
    def read(belief: Belief) -> float:
        return belief.forgetting.half_life or 0.0

    def write(belief: Belief, value: float) -> Belief:
        forgetting: Forgetting = replace(belief.forgetting, half_life=value)
        return replace(belief, forgetting=forgetting)

    return Setting(block, f"{block.name}: half-life", read, write, 4.0 * span)


def _mapping(value: PerColumn) -> dict[str, float]:
    return {"*": value} if isinstance(value, (int, float)) else dict(value)


def progress_bar(show: bool, total: int) -> AbstractContextManager[Callable[[float], None]]:
    """A bar where one is wanted, a no-op otherwise."""
    if not show:
        return nullcontext(lambda _: None)
    from nearline.glmix._progress import bar

    return bar("learning priors", total)
