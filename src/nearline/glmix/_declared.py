"""What a model is declared with and given: settings and labels that make sense, effects with their parents, columns."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nearline._errors import ConfigError, NearlineWarning
from nearline.features import Design
from nearline.glmix import _links
from nearline.glmix._effects import Effect, Fixed, Loadings, Prior, Random

if TYPE_CHECKING:
    from nearline.glmix._model import GLMix

MODES = ("event", "minibatch")


def check_settings(model: GLMix) -> None:
    """Refuse settings of a model that cannot be meant."""
    _links.by_name(model.link)
    if model.mode not in MODES:
        raise ConfigError(f"GLMix(mode=...) is 'event' or 'minibatch', got {model.mode!r}")
    if model.dtype not in ("float64", "float32"):
        raise ConfigError(f"GLMix(dtype=...) is 'float64' or 'float32', got {model.dtype!r}")
    if not 0 < model.dispersion < float("inf"):
        raise ConfigError(f"GLMix(dispersion=...) must be > 0, got {model.dispersion!r}")
    if model.link != "identity" and model.dispersion != 1:
        raise ConfigError(f"GLMix(dispersion=...) needs link='identity'; {model.link!r} has none")
    if model.threads < 1:
        raise ConfigError(f"GLMix(threads=...) must be at least 1, got {model.threads!r}")
    if model.refresh_every is not None and model.refresh_every < 1:
        raise ConfigError(f"GLMix(refresh_every=...) is a number of events or None, got {model.refresh_every!r}")


def check_cycles(verb: str, cycles: int) -> None:
    """Refuse fewer than one pass over the blocks."""
    if cycles < 1:
        raise ConfigError(f"{verb}(cycles=...) must be at least 1, got {cycles!r}")


def check_fit(model: GLMix, cycles: int, order: Sequence[str]) -> None:
    """Refuse a batch fit that cannot be meant."""
    check_cycles("fit", cycles)
    for name in order:
        model.block(name)
    if model.link != "logit" and model.fixed.fit.negatives < 1.0:
        raise ConfigError(f"FixedFit(negatives=...) needs link='logit'; with {model.link!r} no label is negative")


def check_update(mode: str | None, own: str, cycles: int) -> None:
    """Refuse an update in no mode, and cycles of a joint one."""
    if mode not in (None, *MODES):
        raise ConfigError(f"partial_fit(mode=...) is 'event', 'minibatch' or None, got {mode!r}")
    check_cycles("partial_fit", cycles)
    if cycles > 1 and (mode or own) == "event":
        raise ConfigError("partial_fit(cycles=...) needs mode='minibatch'; an event updates all blocks jointly")


def warn_of_one_label(design: Design) -> None:
    """Say so when all labels are equal: what is fitted to them is the priors and an intercept without bounds."""
    labels = design.label[design.weight > 0]
    if len(labels) > 1 and labels.min() == labels.max():
        warnings.warn(
            f"all {len(labels):,} labels of the fit are {labels[0]:g}; check the label column, or fit more history",
            NearlineWarning, stacklevel=3,
        )  # fmt: skip


def with_parents(fixed: Fixed, random: Sequence[Random | Loadings]) -> list[Effect]:
    """All effects of a model, those of undeclared parents included."""
    effects: list[Effect] = [fixed, *random]
    names = {effect.name for effect in effects}
    for effect in random:
        if isinstance(effect, Random) and effect.parent is not None and effect.parent not in names:
            # β_child = β_parent + deviation: in an additive model the parent is one more effect on the same columns.
            # The declared prior mean is the child's own, so that it counts once.
            parent = Random(
                effect.parent, on=effect.on, intercept=effect.intercept, prior=Prior(effect.prior.variance),
                forgetting=effect.forgetting, posterior=effect.posterior, rank=effect.rank,
            )  # fmt: skip
            effects.insert(1, parent)
            names.add(effect.parent)
    return effects


def features(effects: Sequence[Effect]) -> tuple[str, ...]:
    """Feature columns of all effects, each once."""
    return tuple(dict.fromkeys(c for effect in effects if not isinstance(effect, Loadings) for c in effect.on))


def keys(effects: Sequence[Effect]) -> tuple[str | tuple[str, ...], ...]:
    """Keys of all effects, each once."""
    found = [effect.key for effect in effects if not isinstance(effect, Fixed)]
    return tuple(dict.fromkeys(key[0] if len(key) == 1 else key for key in found))
