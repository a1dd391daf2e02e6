"""What a search or a person changes in priors that were learned from history: some numbers, by effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nearline._errors import ConfigError
from nearline.glmix._effects import INTERCEPT, PerColumn, Prior, per_column
from nearline.glmix._state import Belief, Block

if TYPE_CHECKING:
    from nearline.glmix._model import GLMix


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A change of one effect's learned belief; what is left out stays as it was learned.

        V0 ← D V0 D,   D = diag(√variance of each coefficient's column)

    Parameters
    ----------
    variance
        Factor on the prior variance, by column (``"(intercept)"``, ``"*"`` for the rest).
    half_life
        Seconds, instead of the learned one; infinite forgets nothing.
    walk_per_event, walk_per_day
        Random-walk variance, instead of the learned one; by column, the others keep theirs.

    Raises
    ------
    ConfigError
        A number out of its range.

    Examples
    --------
    >>> Adjustment(variance=2.0, half_life=86_400.0).half_life
    86400.0
    """

    variance: PerColumn = 1.0
    half_life: float | None = None
    walk_per_event: PerColumn | None = None
    walk_per_day: PerColumn | None = None

    def __post_init__(self) -> None:
        if self.half_life is not None and not self.half_life > 0:
            raise ConfigError(f"Adjustment(half_life=...) must be > 0 (inf forgets nothing), got {self.half_life!r}")
        for factor in _numbers(self.variance):
            if not 0 < factor < float("inf"):
                raise ConfigError(f"Adjustment(variance=...) must be > 0 and finite, got {factor!r}")

    def of(self, belief: Belief, columns: list[str]) -> Belief:
        """The belief with this change; `columns` are those of the block's coefficients."""
        names = dict.fromkeys([*columns, *_names(belief.prior.variance), "*"])
        variance = {name: belief.prior.variance_of(name) * per_column(self.variance, name, 1.0) for name in names}
        changed = replace(belief, prior=Prior(variance, belief.prior.mean), forgetting=self._forgetting(belief))
        if belief.covariance is None:
            return changed
        root = np.sqrt([per_column(self.variance, name, 1.0) for name in columns[: len(belief.covariance)]])
        return replace(changed, covariance=belief.covariance * np.outer(root, root))

    def _forgetting(self, belief: Belief) -> Any:
        changes: dict[str, Any] = {
            name: _over(getattr(belief.forgetting, name), getattr(self, name))
            for name in ("walk_per_event", "walk_per_day")
        }
        if self.half_life is not None:
            changes["half_life"] = self.half_life if self.half_life < float("inf") else None
        return replace(belief.forgetting, **changes)


def adjust_priors(model: GLMix, changes: Mapping[str, Adjustment]) -> None:
    """Change the priors of a model by effect name and return every posterior of those effects to them.

    Raises
    ------
    ConfigError
        No effect of that name, or a setting for a column that the effect does not have.

    Examples
    --------
    >>> import nearline as nl
    >>> model = nl.GLMix(nl.Schema(label="liked"), random=[nl.Random("user_id")])
    >>> adjust_priors(model, {"user_id": Adjustment(variance=4.0)})
    >>> model.block("user_id").belief.prior.variance_of("(intercept)")
    4.0
    """
    for name, change in changes.items():
        block = model.block(name)
        _check_columns(block, change)
        block.belief = change.of(block.belief, block.columns)
        block.reset()


def _check_columns(block: Block, change: Adjustment) -> None:
    settings = (change.variance, change.walk_per_event, change.walk_per_day)
    named = {column for setting in settings for column in _names(setting)}
    own = {INTERCEPT, "*", *block.columns, *getattr(block.effect, "on", ())}
    unknown = sorted(named - own)
    if unknown:
        raise ConfigError(f"effect {block.name!r}: a change for {unknown[0]!r}, but its columns are {sorted(own)}")


def _over(learned: PerColumn, change: PerColumn | None) -> PerColumn:
    """A setting by column with some of its columns changed, or all of them by a number."""
    if change is None:
        return learned
    if not isinstance(change, Mapping):
        return change
    return {**(learned if isinstance(learned, Mapping) else {"*": learned}), **change}


def _names(value: PerColumn | None) -> list[str]:
    return list(value) if isinstance(value, Mapping) else []


def _numbers(value: PerColumn) -> list[float]:
    return list(value.values()) if isinstance(value, Mapping) else [value]
