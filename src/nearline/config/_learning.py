"""Priors learned from history as a file says, and then adjusted as it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from nearline.config._tables import PriorsTable
from nearline.glmix import Adjustment, GLMix, LearnedPriors, adjust_priors
from nearline.glmix._replay import seconds


def how(priors: PriorsTable) -> dict[str, Any]:
    """The arguments of `GLMix.learn_priors`."""
    found = msgspec.structs.asdict(priors)
    del found["adjust"]
    return found


def adjustments(priors: PriorsTable) -> dict[str, Adjustment]:
    """What the file changes in learned priors, by effect.

    Raises
    ------
    ConfigError
        A number out of its range.
    """
    found = {}
    for name, table in priors.adjust.items():
        half_life = seconds(table.half_life) if isinstance(table.half_life, str) else table.half_life
        found[name] = Adjustment(table.variance, half_life, table.walk_per_event, table.walk_per_day)
    return found


def learn_priors(model: GLMix, past: Any, priors: PriorsTable) -> LearnedPriors:
    """Learn the priors of a model from history and adjust them."""
    learned = model.learn_priors(past, **how(priors))
    adjust_priors(model, adjustments(priors))
    return replace(learned, beliefs={block.name: block.belief for block in model.blocks})
