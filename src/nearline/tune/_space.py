"""What a search may change: one axis per setting, each a short list of values that a file can hold.

An axis is discrete so that no setting is ever tried twice by a hair, and so that what is chosen reads as a person would
write it. What history taught is always one of the values, and so is every value that an earlier search liked.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nearline.glmix import Adjustment, Fixed, Loadings
from nearline.glmix._effects import DAY, INTERCEPT, per_column
from nearline.glmix._state import Block

Value = float | str
Settings = dict[str, Value]

NEVER = math.inf
CHANGED = 1 / 6
FACTORS = tuple(2.0 ** (k / 2) for k in range(-6, 7))
WALKS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3)
# Random-walk variance gathered over the whole of history.
SPREADS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
HALF_LIVES = tuple(
    3_600.0 * hours
    for hours in (0.25, 0.5, 1, 2, 4, 8, 12, 24, 48, 96, 168, 336, 720, 1440, 2160, 4320, 8760, 17520, 35040, 87600)
)


@dataclass(frozen=True, slots=True)
class Axis:
    """One setting.

    Attributes
    ----------
    name
        What tables call it: ``"user_id: half_life"``, ``"structure"``, ``"every"``.
    values
        What may be tried, in order of size where `ordered`.
    default
        The value of trial 0.
    effect, field, columns
        Which effect's `Adjustment` it changes, where, and for which columns (none: all); empty where none.

    Examples
    --------
    >>> Axis("every", (1.0, "1min"), 1.0, ordered=False).default
    1.0
    """

    name: str
    values: tuple[Value, ...]
    default: Value
    effect: str = ""
    field: str = ""
    columns: tuple[str, ...] = ()
    ordered: bool = True

    def beside(self, value: Value, rng: np.random.Generator) -> Value:
        """Another value, one or two steps away where they are ordered."""
        place, last = self.values.index(value), len(self.values) - 1
        if not self.ordered:
            return self.values[(place + int(rng.integers(1, last + 1))) % (last + 1)]
        step = int(rng.choice([-2, -1, 1, 2]))
        inside = 0 <= place + step <= last
        return self.values[place + step if inside else min(max(place - step, 0), last)]

    def including(self, value: Value) -> Axis:
        """The same axis with one more value, where it is a number."""
        if value in self.values or not self.ordered:
            return self
        return replace(self, values=tuple(sorted((*self.values, value), key=float)))


@dataclass(frozen=True, slots=True)
class Space:
    """All axes of a search.

    Examples
    --------
    >>> Space((Axis("a", (1.0, 2.0), 2.0),)).defaults()
    {'a': 2.0}
    """

    axes: tuple[Axis, ...]

    def defaults(self) -> Settings:
        """Trial 0: all as history taught it."""
        return {axis.name: axis.default for axis in self.axes}

    def including(self, known: Sequence[Settings]) -> Space:
        """The same space with the values of earlier settings among the ones to choose from."""
        axes = []
        for axis in self.axes:
            for settings in known:
                axis = axis.including(settings[axis.name])
            axes.append(axis)
        return Space(tuple(axes))

    def near(self, settings: Settings, rng: np.random.Generator) -> Settings:
        """Settings that differ from others in one axis at least, and in any other one time in six."""
        moved = rng.random(len(self.axes)) < CHANGED
        moved[rng.integers(len(self.axes))] = True
        return {
            axis.name: axis.beside(settings[axis.name], rng) if move else settings[axis.name]
            for axis, move in zip(self.axes, moved)
        }

    def with_values(self, values: Mapping[str, Sequence[Value]]) -> Space:
        """The same axes with other values to choose from."""
        return Space(tuple(replace(axis, values=tuple(values[axis.name])) for axis in self.axes))

    def digest(self) -> str:
        """Hash of which settings there are: searches of one digest can learn from each other."""
        return hashlib.sha256("\n".join(axis.name for axis in self.axes).encode()).hexdigest()[:12]

    def changes(self, settings: Mapping[str, Value]) -> dict[str, Adjustment]:
        """The adjustments that settings ask for, by effect; a setting that is as learned asks for none."""
        fields: dict[str, dict[str, object]] = {}
        for axis in self.axes:
            value = settings[axis.name]
            if not axis.effect or value == axis.default:
                continue
            found = fields.setdefault(axis.effect, {})
            if not axis.columns:
                found[axis.field] = value
                continue
            before = found.get(axis.field, {})
            assert isinstance(before, dict)
            found[axis.field] = {**before, **dict.fromkeys(axis.columns, value)}
        return {name: Adjustment(**found) for name, found in fields.items()}  # type: ignore[arg-type]


def space_of(blocks: Sequence[Block], span: float, structures: Sequence[str], intervals: Sequence[int | str]) -> Space:
    """The settings of a model whose priors were learned from history.

    Parameters
    ----------
    span
        Seconds from the first event of history to the last.
    structures
        Prior structures to choose from, the one that was learned first.
    intervals
        Update intervals to choose from, the usual one first.
    """
    axes = [axis for block in blocks for axis in _of_block(block, span)]
    if len(structures) > 1 and any(not isinstance(block.effect, Fixed) for block in blocks):
        axes.append(Axis("structure", tuple(structures), structures[0], ordered=False))
    if len(intervals) > 1:
        axes.append(Axis("every", tuple(intervals), intervals[0], ordered=False))
    return Space(tuple(axes))


def _of_block(block: Block, span: float) -> list[Axis]:
    columns = list(dict.fromkeys(block.columns))
    rest = [column for column in columns if column != INTERCEPT]
    if not columns:
        return []
    if isinstance(block.effect, Loadings):
        return [_factor(block, ())]
    groups = [(INTERCEPT,)] * (INTERCEPT in columns) + [("*",)] * bool(rest)
    axes = [_factor(block, group) for group in groups]
    if span > 0 and block.belief.forgetting.form != "per_update":
        axes.append(_half_life(block, span))
    if isinstance(block.effect, Fixed):
        return [*axes, *(_walk_per_day(block, span, group) for group in groups if span > 0)]
    if INTERCEPT in columns:
        axes.append(_walk(block, "walk_per_event", (INTERCEPT,), WALKS))
        if span > 0:
            axes.append(_walk_per_day(block, span, (INTERCEPT,)))
    return axes


def _axis(block: Block, field: str, columns: tuple[str, ...], values: Sequence[float], default: float) -> Axis:
    name = f"{block.name}: {field}{' of ' + columns[0] if columns else ''}"
    return Axis(name, tuple(sorted({*values, default})), default, block.name, field, columns)


def _factor(block: Block, columns: tuple[str, ...]) -> Axis:
    return _axis(block, "variance", columns, FACTORS, 1.0)


def _half_life(block: Block, span: float) -> Axis:
    within = [value for value in HALF_LIVES if span / 64 <= value <= 16 * span]
    return _axis(block, "half_life", (), [*within, NEVER], block.belief.forgetting.half_life or NEVER)


def _walk_per_day(block: Block, span: float, columns: tuple[str, ...]) -> Axis:
    values = [float(f"{spread * DAY / span:.2g}") for spread in SPREADS]
    return _walk(block, "walk_per_day", columns, [0.0, *values])


def _walk(block: Block, field: str, columns: tuple[str, ...], values: Sequence[float]) -> Axis:
    column = next(name for name in block.columns if (columns == ("*",) and name != INTERCEPT) or name in columns)
    learned = per_column(getattr(block.belief.forgetting, field), column, 0.0)
    return _axis(block, field, columns, values, learned)
