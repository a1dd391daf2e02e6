"""What settings are worth on rows that no trial saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nearline._errors import ConfigError
from nearline.features import Design
from nearline.glmix import GLMix
from nearline.tune._gap import Floats, Gap
from nearline.tune._objective import Objective
from nearline.tune._space import Settings, Value
from nearline.tune._tuned import Tuned


def held_out(objective: Objective, settings: Settings, past: Design, rest: Design) -> Floats:
    """Losses (n) of the rows of `rest`, of a model that learned `past` first."""
    objective.losses(settings, past)
    return objective.going_on(settings, rest)


def judge(found: Tuned, model: GLMix, table: Any, several: Sequence[Mapping[str, Value]]) -> list[Gap]:
    """What other settings than the best would have gained on the defaults, on the rows behind the searched ones.

    Parameters
    ----------
    found
        The outcome of `tune(model, table)`.
    several
        Settings of its space, such as those of its trials.
    """
    design, _ = model.design(table, learn=True)
    cut = int(design.rows * found.share)
    past, rest = design.take(0, cut), design.take(cut, design.rows)
    if past.rows != found.rows:
        raise ConfigError(
            f"judge: the search was on {found.rows} rows, this table gives {past.rows}; use the same table"
        )
    objective = Objective(model, found.space, found.learned, found.every)
    before = held_out(objective, found.space.defaults(), past, rest)
    return [Gap.of(before, held_out(objective, dict(settings), past, rest), rest.weight) for settings in several]
