"""Settings by one-step-ahead loss: replay history under candidate priors, walks and half-lives, keep the best.

A coordinate search over the logarithm of each setting, in steps that halve from round to round. Noise and half-lives
start off; after the first round's variances all of them compete, and the one that is surest to help is switched on,
until none is. Effects that would still never forget are insured. Expectation-maximisation steps for the joint
shape of each random effect's prior come last, each kept only if it predicts better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design
from nearline.glmix import _links, _minibatch_step, _priors, _replay
from nearline.glmix._effects import Fixed
from nearline.glmix._settings import FEW, INSURANCE, MANY, MOVE, PREMIUM, Proof, Setting, settings_of
from nearline.glmix._state import Belief, Block

Floats = NDArray[np.float64]

# The first step multiplies or divides a setting by this; each round takes its square root.
FIRST_STEP = 4.0
PARTS = 40
BATCHES = 100
EM_STEPS = 6


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
        losses, surplus = self.tried(block, belief, proof)
        if surplus > 0:
            block.belief, self.best = belief, losses
        return surplus > 0

    def tried(self, block: Block, belief: Belief, proof: Proof) -> tuple[Floats, float]:
        """Losses of a belief for a block, and by how much its gain is above what it has to prove; nothing is kept."""
        old, block.belief = block.belief, belief
        losses = self.losses()
        block.belief = old
        if not np.isfinite(losses).all():
            return losses, -math.inf
        gains = self.best - losses
        error = float(np.std(gains)) * math.sqrt(len(gains))
        return losses, float(gains.sum()) - max(proof.errors * error, proof.gain * float(self.best.sum()))

    def improve(self, setting: Setting, step: float) -> None:
        """Move one setting by factors of `step`, up and then down, while it helps; one that is off stays off."""
        value = setting.read(setting.block.belief)
        for factor in (step, 1 / step) if value > 0 else ():
            moved = False
            while value * factor >= setting.least and self.accepts(
                setting.block, setting.write(setting.block.belief, value * factor), setting.move
            ):
                value, moved = value * factor, True
            if moved:
                return

    def switch_on(self, settings: Sequence[Setting]) -> None:
        """Of the settings that are off switch on the one that is surest to help, then of those that still seem to."""
        off = [setting for setting in settings if setting.read(setting.block.belief) == 0.0]
        while off:
            found = [(*self._surest(setting), setting) for setting in off]
            surplus, value, best = max(found, key=lambda candidate: candidate[0])
            if surplus <= 0:
                return
            self.accepts(best.block, best.write(best.block.belief, value), best.switch_on)
            off = [setting for gain, _, setting in found if gain > 0 and setting is not best]

    def insure(self, settings: Sequence[Setting], span: float) -> None:
        """Let an effect that never forgets do so slowly, unless history minds.

        The n-th event moves a coefficient by 1/n: were the world to change, one of many events could not follow, and a
        history in which nothing changed yet cannot tell. One of few follows anyway.
        """
        for setting in settings:
            events = self.design.rows / max(setting.block.entities, 1)
            if setting.insured and events >= FEW and setting.read(setting.block.belief) == 0.0:
                slow = setting.write(setting.block.belief, INSURANCE * span * max(1.0, MANY / events))
                losses, _ = self.tried(setting.block, slow, MOVE)
                if losses.sum() <= (1 + PREMIUM) * self.best.sum():
                    setting.block.belief, self.best = slow, losses

    def _surest(self, setting: Setting) -> tuple[float, float]:
        """(surplus, value) of the start of a setting that is surest to help."""
        block = setting.block
        return max((self.tried(block, setting.write(block.belief, v), setting.switch_on)[1], v) for v in setting.starts)


def one_step(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, rounds: int, structure: str, walks: bool,
    half_lives: bool, progress: bool, served: Served,
) -> tuple[float, float, int]:  # fmt: skip
    """Search all settings; returns (loss before, loss after, evaluations) and leaves the best beliefs in the blocks."""
    span = float(np.ptp(design.time)) if design.rows else 0.0
    settings = settings_of(blocks, span, structure, walks, half_lives)
    with progress_bar(progress, rounds * len(settings) * 2) as tick:
        search = _Search(blocks, n_slots, design, link, served, tick)
        step = FIRST_STEP
        for number in range(rounds):
            for setting in settings:
                search.improve(setting, step)
            if number == 0:
                search.switch_on(settings)
                search.insure(settings, span)
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
            search.improve(Setting(block, lambda _: 1.0, scaled(block.belief)), 2.0)


def scaled(belief: Belief) -> Callable[[Belief, float], Belief]:
    """Write `factor` times the covariance that a belief has now."""

    def write(_: Belief, factor: float) -> Belief:
        assert belief.covariance is not None
        return replace(belief, covariance=belief.covariance * factor)

    return write


def progress_bar(show: bool, total: int) -> AbstractContextManager[Callable[[float], None]]:
    """A bar where one is wanted, a no-op otherwise."""
    if not show:
        return nullcontext(lambda _: None)
    from nearline.glmix._progress import bar

    return bar("learning priors", total)
