"""Which numbers a search for priors may change, where it starts, and how much better a change has to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nearline.glmix._effects import DAY, INTERCEPT, Fixed, Loadings, PerColumn, Prior, per_column
from nearline.glmix._state import Belief, Block


@dataclass(frozen=True, slots=True)
class Proof:
    """How much better a candidate must be: by `errors` standard errors over consecutive parts of history, since what
    wins in one spell only does not carry over to the next, and by `gain` of the loss.
    """

    errors: float
    gain: float


MOVE = Proof(1.0, 1e-5)
# History is too short to see what noise does in the long run: it has to be surer, and what is surest, by gain less two
# standard errors, is taken before what gained most. An entity's is riskier than that of what all rows share, and its
# half-life the riskiest: of those who stay away for longer than history lasts it says nothing.
NOISE, NEW_NOISE, NEW_ENTITY_NOISE = Proof(2.0, 1e-5), Proof(2.0, 1e-4), Proof(2.0, 5e-4)
NEW_HALF_LIFE = Proof(3.0, 1e-3)
# Starts of noise: random-walk variance per event, and over the whole of history.
PER_EVENT = (0.001, 0.01, 0.1)
SPREADS = (0.01, 0.1, 1.0)
# Starts of a half-life, in lengths of history; that of an entity is never shorter than the last of its own.
LENGTHS, ENTITY_LENGTHS = (4.0, 1.0, 0.25, 0.0625), (4.0, 1.0)
# The half-life of an effect that would have none, in lengths of history where its entities have many events (the fewer,
# the longer), and the share of the loss it may cost.
INSURANCE, FEW, MANY, PREMIUM = 8.0, 100, 1_000, 2e-4


@dataclass(frozen=True, slots=True)
class Setting:
    """One number that the search may change: how to read it from a belief and how to write it back.

    `starts` are tried where it is off (0), and have to prove `switch_on`; one without any is never off. It stays above
    `least`. One that is `insured` is switched on, slowly, where it is still off then.
    """

    block: Block
    read: Callable[[Belief], float]
    write: Callable[[Belief, float], Belief]
    starts: tuple[float, ...] = ()
    switch_on: Proof = NEW_NOISE
    least: float = 0.0
    insured: bool = False

    @property
    def move(self) -> Proof:
        """What a change has to prove."""
        return NOISE if self.starts else MOVE


def settings_of(blocks: Sequence[Block], span: float, structure: str, walks: bool, half_lives: bool) -> list[Setting]:
    """All settings of a model over a history of `span` seconds, block by block, variances first."""
    return [
        setting for block in blocks if block.columns for setting in _of_block(block, span, structure, walks, half_lives)
    ]


def _of_block(block: Block, span: float, structure: str, walks: bool, half_lives: bool) -> list[Setting]:
    columns = list(dict.fromkeys(block.columns))
    halves = [[c for c in columns if c == INTERCEPT], [c for c in columns if c != INTERCEPT]]
    groups = halves if isinstance(block.effect, Fixed) else [[column] for column in columns]
    settings = [_variance(block, group) for group in ([columns] if structure == "scalar" else groups) if group]
    if isinstance(block.effect, Loadings):
        return settings
    if half_lives and span > 0 and block.belief.forgetting.form != "per_update":
        settings.append(_half_life(block, span))
    return settings + (_walks(block, span, halves) if walks else [])


def _walks(block: Block, span: float, halves: list[list[str]]) -> list[Setting]:
    """What all rows share may drift in any coefficient; an entity in its intercept, as it is used or as time passes."""
    per_day = [spread * DAY / span for spread in SPREADS] if span > 0 else []
    if isinstance(block.effect, Fixed):
        return [_walk(block, "walk_per_day", group, per_day) for group in halves if group and per_day]
    if not halves[0]:
        return []
    found = [_walk(block, "walk_per_event", halves[0], PER_EVENT)]
    return found + ([_walk(block, "walk_per_day", halves[0], per_day)] if per_day else [])


def _variance(block: Block, columns: Sequence[str]) -> Setting:
    def write(belief: Belief, value: float) -> Belief:
        variance = {column: belief.prior.variance_of(column) for column in dict.fromkeys(block.columns)}
        known = {**_mapping(belief.prior.variance), **variance}
        factor = value / belief.prior.variance_of(columns[0])
        known.update({column: known[column] * factor for column in columns})
        return belief.with_prior(Prior(variance=known, mean=belief.prior.mean))

    return Setting(block, lambda b: b.prior.variance_of(columns[0]), write)


def _walk(block: Block, field: str, columns: Sequence[str], starts: Sequence[float]) -> Setting:
    def read(belief: Belief) -> float:
        return per_column(getattr(belief.forgetting, field), columns[0], 0.0)

    def write(belief: Belief, value: float) -> Belief:
        walk = {**_mapping(getattr(belief.forgetting, field)), **dict.fromkeys(columns, value)}
        changed: dict[str, Any] = {field: walk}
        return replace(belief, forgetting=replace(belief.forgetting, **changed))

    proof = NEW_NOISE if isinstance(block.effect, Fixed) else NEW_ENTITY_NOISE
    return Setting(block, read, write, tuple(starts), proof)


def _half_life(block: Block, span: float) -> Setting:
    def read(belief: Belief) -> float:
        return belief.forgetting.half_life or 0.0

    def write(belief: Belief, value: float) -> Belief:
        return replace(belief, forgetting=replace(belief.forgetting, half_life=value))

    if isinstance(block.effect, Fixed):
        return Setting(block, read, write, tuple(length * span for length in LENGTHS), insured=True)
    starts = tuple(length * span for length in ENTITY_LENGTHS)
    return Setting(block, read, write, starts, NEW_HALF_LIFE, starts[-1], insured=True)


def _mapping(value: PerColumn) -> dict[str, float]:
    return dict(value) if isinstance(value, Mapping) else {"*": value}
