"""What a user declares: the effects of a model, their priors and how they forget.

A score is a sum of effects on the link scale,

    η_n = offset_n + x_nᵀ b + Σ_r z_{r,n}ᵀ β_{r, id_r(n)} + Σ_l β_{of(l), id(n)}ᵀ γ_{l, id_l(n)}

one `Fixed` (b), any number of `Random` (β) and `Loadings` (γ). All of them are frozen descriptions; what they learn
lives in the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.glmix._fit._settings import FixedFit, RandomFit

PosteriorKind = Literal["auto", "full", "diagonal", "lowrank"]
ForgettingForm = Literal["reverting", "stabilised", "per_update"]
PerColumn = float | Mapping[str, float]

INTERCEPT = "(intercept)"
DAY = 86_400.0


def per_column(value: PerColumn, column: str, default: float) -> float:
    """The setting for one column: a number holds for all, a mapping by column name with ``"*"`` for the rest."""
    if isinstance(value, Mapping):
        return float(value.get(column, value.get("*", default)))
    return float(value)


def by_column(columns: Sequence[str], setting: Callable[[str], float]) -> NDArray[np.float64]:
    """A setting for each of `columns` (d), each distinct one asked for once: there may be a million, hashed.

    Examples
    --------
    >>> by_column(["a", "b", "a"], lambda column: float(column == "a")).tolist()
    [1.0, 0.0, 1.0]
    """
    known = {column: float(setting(column)) for column in dict.fromkeys(columns)}
    return np.fromiter(map(known.__getitem__, columns), np.float64, len(columns))


def _check_positive(owner: str, name: str, value: PerColumn, *, zero: bool) -> None:
    for number in value.values() if isinstance(value, Mapping) else [value]:
        if not (number >= 0 if zero else number > 0) or number == float("inf"):
            raise ConfigError(f"{owner}({name}=...) must be {'>= 0' if zero else '> 0'} and finite, got {number!r}")


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of a coefficient before any event: N(mean, variance), by column.

    Parameters
    ----------
    variance
        One number for every coefficient, or a mapping from column name; ``"(intercept)"`` names the intercept and
        ``"*"`` the rest. `GLMix.learn_priors` replaces these by what history says.
    mean
        Likewise; 0 by default.

    Examples
    --------
    >>> Prior(variance={"(intercept)": 1.0, "*": 0.3}).variance_of("genres")
    0.3
    """

    variance: PerColumn = field(default_factory=lambda: {INTERCEPT: 1.0, "*": 0.25})
    mean: PerColumn = 0.0

    def __post_init__(self) -> None:
        _check_positive("Prior", "variance", self.variance, zero=False)
        for number in self.mean.values() if isinstance(self.mean, Mapping) else [self.mean]:
            if not abs(number) < float("inf"):
                raise ConfigError(f"Prior(mean=...) must be finite, got {number!r}")

    def variance_of(self, column: str) -> float:
        """Prior variance of a coefficient on `column`."""
        return per_column(self.variance, column, 0.25)

    def mean_of(self, column: str) -> float:
        """Prior mean of a coefficient on `column`."""
        return per_column(self.mean, column, 0.0)


@dataclass(frozen=True, slots=True)
class Forgetting:
    """How a posterior relaxes towards its prior as time passes.

    ``reverting`` (Ornstein-Uhlenbeck, in covariance), with a = 2^(−Δt / half_life):

        μ ← μ0 + a (μ − μ0),        S ← a² S + (1 − a²) S0

    ``stabilised`` (Lambda Learner's, in precision), with δ = 2^(−Δt / half_life):

        H ← δ H + (1 − δ) Λ0,       μ ← H⁻¹ (δ H_old μ + (1 − δ) Λ0 μ0)

    ``per_update`` is ``stabilised`` with a constant δ at every update, as in the paper: the more batches, the more it
    forgets. All three apply lazily at an entity's next event and never leave it surer than its data, nor less sure than
    the prior.

    Parameters
    ----------
    half_life
        Seconds of event time after which half is forgotten; None forgets nothing.
    form
        ``"reverting"``, ``"stabilised"`` or ``"per_update"``.
    delta
        The constant δ in (0, 1] for ``per_update``.
    walk_per_event, walk_per_day
        Random-walk variance added to a coefficient, per event of its entity and per day of event time, by column;
        it never lifts a variance above the prior's. A user's mood within a session is
        ``walk_per_event={"(intercept)": 0.01}``.

    Examples
    --------
    >>> Forgetting(half_life=86_400.0).form
    'reverting'
    """

    half_life: float | None = None
    form: ForgettingForm = "reverting"
    delta: float = 1.0
    walk_per_event: PerColumn = field(default_factory=dict)
    walk_per_day: PerColumn = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.form not in ("reverting", "stabilised", "per_update"):
            raise ConfigError(f"Forgetting(form=...) is 'reverting', 'stabilised' or 'per_update', got {self.form!r}")
        if self.half_life is not None and not self.half_life > 0:
            raise ConfigError(f"Forgetting(half_life=...) is in seconds and must be > 0, got {self.half_life!r}")
        if not 0 < self.delta <= 1:
            raise ConfigError(f"Forgetting(delta=...) must be in (0, 1], got {self.delta!r}")
        if self.form == "per_update" and self.half_life is not None:
            raise ConfigError("Forgetting(form='per_update') takes delta, not half_life; drop one of them")
        if self.form != "per_update" and self.delta != 1:
            raise ConfigError(f"Forgetting(delta=...) needs form='per_update'; {self.form!r} takes half_life")
        _check_positive("Forgetting", "walk_per_event", self.walk_per_event, zero=True)
        _check_positive("Forgetting", "walk_per_day", self.walk_per_day, zero=True)


@dataclass(frozen=True, slots=True, init=False)
class Fixed:
    """The part of the score that all rows share: xᵀ b over the given columns, with an intercept.

    Parameters
    ----------
    on
        Feature columns its coefficients act on; an intercept comes first unless ``intercept=False``.
    free_intercept
        Leave the intercept unpenalised in a batch fit (prior precision 1e-6, so that a mode exists). By default it is
        free unless a prior is given. The stream starts from `prior`, N(0, 1) by default, or from the batch fit.
    fit
        What a batch fit does besides: L1, bounds, normalisation, down-sampling, variances; see `FixedFit`.

    Examples
    --------
    >>> Fixed("gender", "genres").on
    ('gender', 'genres')
    >>> Fixed().free_intercept, Fixed(prior=Prior(variance=2.0)).free_intercept
    (True, False)
    """

    on: tuple[str, ...]
    intercept: bool
    free_intercept: bool
    prior: Prior
    forgetting: Forgetting
    posterior: PosteriorKind
    rank: int
    fit: FixedFit

    def __init__(
        self,
        *on: str,
        intercept: bool = True,
        free_intercept: bool | None = None,
        prior: Prior | None = None,
        forgetting: Forgetting | None = None,
        posterior: PosteriorKind = "auto",
        rank: int = 16,
        fit: FixedFit | None = None,
    ) -> None:
        free = prior is None if free_intercept is None else free_intercept
        _set(self, on=_columns("Fixed", on), intercept=intercept, free_intercept=free and intercept)
        _set(self, prior=prior or Prior(variance=1.0))
        _set(self, forgetting=forgetting or Forgetting(), posterior=_kind("Fixed", posterior), rank=rank)
        _set(self, fit=fit or FixedFit())
        check_columns("Fixed", self, self.on)

    @property
    def name(self) -> str:
        """The effect's name in reports, `explain` and errors."""
        return "fixed"


@dataclass(frozen=True, slots=True, init=False)
class Random:
    """One coefficient vector per entity of `key`: zᵀ β_e over the columns `on`, with an intercept.

    Parameters
    ----------
    key
        Key column, or several for one entity per combination.
    on
        Feature columns its coefficients act on; an intercept comes first unless ``intercept=False``.
    parent
        Key column of the entity's parent (a campaign for an ad). The parent gets an effect on the same columns, so that
        a new entity starts from its parent: β_ad = β_campaign + (its own deviation, prior mean 0).
    fit
        Which entities, rows and features a batch fit takes; see `RandomFit`.

    Examples
    --------
    >>> Random("user_id", on=["genres", "year"]).name
    'user_id'
    """

    key: tuple[str, ...]
    on: tuple[str, ...]
    intercept: bool
    prior: Prior
    forgetting: Forgetting
    posterior: PosteriorKind
    rank: int
    parent: str | None
    name: str
    fit: RandomFit

    def __init__(
        self,
        key: str | Sequence[str],
        on: Sequence[str] = (),
        *,
        intercept: bool = True,
        prior: Prior | None = None,
        forgetting: Forgetting | None = None,
        posterior: PosteriorKind = "auto",
        rank: int = 16,
        parent: str | None = None,
        name: str | None = None,
        fit: RandomFit | None = None,
    ) -> None:
        keys = _key("Random", key)
        if isinstance(on, str):
            raise ConfigError(f"Random({keys[0]!r}, on=...) takes a list of columns; write on=[{on!r}]")
        _set(self, key=keys, on=_columns("Random", on), intercept=intercept, prior=prior or Prior(), parent=parent)
        _set(self, forgetting=forgetting or Forgetting(), posterior=_kind("Random", posterior), rank=rank)
        _set(self, name=name or "+".join(keys), fit=fit or RandomFit())
        check_columns(f"Random({keys[0]!r})", self, self.on)
        if not intercept and not on:
            raise ConfigError(f"Random({keys[0]!r}) has neither features nor an intercept; give on=[...]")
        if parent in ("", keys[0]) and len(keys) == 1:
            raise ConfigError(f"Random({keys[0]!r}, parent=...) must name another column than its key, got {parent!r}")


@dataclass(frozen=True, slots=True, init=False)
class Loadings:
    """Each entity's own correction of the features that another effect's coefficients act on: β_uᵀ γ_m.

    A movie tagged only *Drama* whose fans are those who love *Sci-Fi* learns a Sci-Fi loading; the intercept's
    loading is how strongly it divides generous users from harsh ones. The product is linearised at both posterior
    means, so both sides learn from every event (an extended Kalman update; a bilinear, factorisation-like extension of
    GLMix, ours).

    Parameters
    ----------
    key
        Key column whose entities own the loadings.
    of
        Name of the `Random` effect whose coefficients they load on.

    Examples
    --------
    >>> Loadings("movie_id", of="user_id").name
    'movie_id*user_id'
    """

    key: tuple[str, ...]
    of: str
    prior: Prior
    forgetting: Forgetting
    posterior: PosteriorKind
    rank: int
    name: str

    def __init__(
        self,
        key: str | Sequence[str],
        of: str,
        *,
        prior: Prior | None = None,
        forgetting: Forgetting | None = None,
        name: str | None = None,
    ) -> None:
        keys = _key("Loadings", key)
        _set(self, key=keys, of=of, prior=prior or Prior(variance=0.1), forgetting=forgetting or Forgetting())
        _set(self, posterior="full", rank=0, name=name or f"{'+'.join(keys)}*{of}")


Effect = Fixed | Random | Loadings


def _set(instance: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def _key(owner: str, key: str | Sequence[str]) -> tuple[str, ...]:
    keys = (key,) if isinstance(key, str) else tuple(key)
    if not keys or not all(isinstance(part, str) and part for part in keys):
        raise ConfigError(f"{owner}(key=...) must be a column name or several, got {key!r}")
    return keys


def _columns(owner: str, on: Sequence[str]) -> tuple[str, ...]:
    on = tuple(on)
    if not all(isinstance(column, str) and column for column in on):
        raise ConfigError(f"{owner} takes column names, got {on!r}")
    twice = sorted(column for column in set(on) if on.count(column) > 1)
    if twice:
        raise ConfigError(f"{owner} names a column twice: {twice}; list it once")
    if INTERCEPT in on:
        raise ConfigError(f"{owner}: {INTERCEPT!r} is no column; use intercept=True or False")
    return on


def check_columns(owner: str, effect: Effect, on: Sequence[str]) -> None:
    """Refuse a prior or a walk for a column that the effect does not have: a slip of the pen would go unnoticed."""
    walks = (effect.forgetting.walk_per_event, effect.forgetting.walk_per_day)
    settings = (effect.prior.variance, effect.prior.mean, *walks)
    named = {column for setting in settings if isinstance(setting, Mapping) for column in setting}
    if isinstance(effect, Fixed):
        named |= effect.fit.columns
    unknown = sorted(named - {*on, INTERCEPT, "*"})
    if unknown:
        raise ConfigError(f"{owner} has a setting for {unknown[0]!r}, but its columns are {list(on)}")


def _kind(owner: str, kind: PosteriorKind) -> PosteriorKind:
    if kind not in ("auto", "full", "diagonal", "lowrank"):
        raise ConfigError(f"{owner}(posterior=...) is 'auto', 'full', 'diagonal' or 'lowrank', got {kind!r}")
    return kind
