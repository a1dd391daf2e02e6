"""The true score and how its coefficients move.

    η(m, a, t) = b₀ + x_mᵀ b_x + v_aᵀ b_v + v_aᵀ β_m(t) + x_mᵀ (g_{c(a)}(t) + γ_a(t)),     p = σ(η)

with x the member's features, v the ad's, b the fixed effect, β_m the member's coefficients, g_c the campaign's and γ_a
the ad's own. All but b₀ are Ornstein-Uhlenbeck processes (`Drift`), sampled exactly on a time grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import DataError
from nearline.simulate._config import DAY, START, Marketplace
from nearline.simulate._population import Floats, Ints, Population


class Coefficients(NamedTuple):
    """The moving parts, each in units of its own size: rows are members, campaigns or ads."""

    fixed: Floats
    member: Floats
    campaign: Floats
    ad: Floats


@dataclass(frozen=True)
class Truth:
    """The true coefficients from `start` until `end` (seconds since the epoch)."""

    start: float
    end: float
    live: Ints
    intercept: float
    coefficients: Coefficients
    population: Population

    def logit(self, member_id: ArrayLike, ad_id: ArrayLike) -> Floats:
        """True log-odds of a click for each pair (n) of member and ad, whether or not the ad is live."""
        who, c = self.population, self.coefficients
        m, a = pairs(who, member_id, ad_id)
        member_part, ad_part = _fixed_parts(who, c.fixed)
        slopes = c.ad[a] + c.campaign[who.campaign[a]]
        personal = _rowdot(who.ad_design[a], c.member[m]) + _rowdot(who.member_design[m], slopes)
        return self.intercept + member_part[m] + ad_part[a] + personal

    def probability(self, member_id: ArrayLike, ad_id: ArrayLike) -> Floats:
        """True click probability, σ(logit): the best possible prediction at this time."""
        return sigmoid(self.logit(member_id, ad_id))


def pairs(who: Population, member_id: ArrayLike, ad_id: ArrayLike) -> tuple[Ints, Ints]:
    """Pairs of ids as arrays; `DataError` for an id that is not in the population."""
    return _known(member_id, who.members.num_rows, "member_id"), _known(ad_id, who.ads.num_rows, "ad_id")


def sigmoid(eta: Floats) -> Floats:
    """1 / (1 + e^{−η}), without overflow."""
    p: Floats = 0.5 * (1 + np.tanh(0.5 * eta))
    return p


def path(config: Marketplace, population: Population, edges: Floats) -> Iterator[Truth]:
    """The truth on each interval of the grid, in order; every call gives the same path."""
    moving = _draw(config, population, generator(config, 0))
    intercept = _intercept(config, _truth(0, 0.0, moving, population, edges), generator(config, 0, 1))
    shocks = dict(sorted((day * DAY, size) for day, size in config.shocks))
    for k in range(len(edges) - 1):
        rng = generator(config, 1, k)
        if k > 0:
            moving = _drift(config, moving, (edges[k] - edges[k - 1]) / DAY, rng)
        if edges[k] in shocks:
            moving = _shock(config, moving, shocks[edges[k]], rng)
        yield _truth(k, intercept, moving, population, edges)


def generator(config: Marketplace, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=key))


def _truth(k: int, intercept: float, moving: Coefficients, who: Population, edges: Floats) -> Truth:
    live = np.flatnonzero((who.born <= k) & (k < who.gone))
    return Truth(START + edges[k], START + edges[k + 1], live, intercept, moving, who)


def _sizes(config: Marketplace) -> tuple[float, float, float, float]:
    d = config.drift
    return d.fixed_size, d.member_size, d.campaign_size, d.ad_size


def _draw(config: Marketplace, who: Population, rng: np.random.Generator) -> Coefficients:
    width = who.fixed_member_design.shape[1] + who.fixed_ad_design.shape[1]
    shapes = (
        (width,),
        (config.members, who.ad_design.shape[1]),
        (config.campaigns, who.member_design.shape[1]),
        (config.ads, who.member_design.shape[1]),
    )
    drawn = Coefficients(*(size * rng.standard_normal(shape) for size, shape in zip(_sizes(config), shapes)))
    # one vector alone strays far from its size, and the difficulty of the market with it
    realised = np.sqrt(sum(np.var(part) for part in _fixed_parts(who, drawn.fixed)))
    return drawn._replace(fixed=drawn.fixed * (config.drift.fixed_size / realised if realised > 0 else 1.0))


def _fixed_parts(who: Population, b: Floats) -> tuple[Floats, Floats]:
    split = who.fixed_member_design.shape[1]
    return who.fixed_member_design @ b[:split], who.fixed_ad_design @ b[split:]


def _drift(config: Marketplace, moving: Coefficients, days: float, rng: np.random.Generator) -> Coefficients:
    d = config.drift
    half_lives = (d.fixed_half_life, d.member_half_life, d.campaign_half_life, d.ad_half_life)
    keep = [2.0 ** (-days / half_life) for half_life in half_lives]
    return Coefficients(*(_blend(c, rho, size, rng) for c, rho, size in zip(moving, keep, _sizes(config))))


def _shock(config: Marketplace, moving: Coefficients, size: float, rng: np.random.Generator) -> Coefficients:
    keep = float(np.sqrt(1 - size**2))
    return moving._replace(
        campaign=_blend(moving.campaign, keep, config.drift.campaign_size, rng),
        ad=_blend(moving.ad, keep, config.drift.ad_size, rng),
    )


def _blend(c: Floats, rho: float, size: float, rng: np.random.Generator) -> Floats:
    fresh: Floats = size * np.sqrt(1 - rho**2) * rng.standard_normal(c.shape)
    return rho * c + fresh


def _intercept(config: Marketplace, truth: Truth, rng: np.random.Generator) -> float:
    """Bisection for the b₀ at which the mean probability of 20,000 random pairs is the base rate."""
    who = truth.population
    members = rng.choice(config.members, 20_000, p=who.activity / who.activity.sum())
    eta = truth.logit(members, rng.integers(0, config.ads, 20_000))
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sigmoid(eta + middle).mean() < config.base_rate else (low, middle)
    return (low + high) / 2


def _rowdot(a: Floats, b: Floats) -> Floats:
    dot: Floats = np.einsum("ij,ij->i", a, b)
    return dot


def _known(ids: ArrayLike, size: int, name: str) -> NDArray[np.int64]:
    codes = np.asarray(ids, dtype=np.int64)
    if codes.size and not 0 <= codes.min() <= codes.max() < size:
        raise DataError(f"ids must lie in [0, {size})", column=name, fix="use the ids of Market.members and Market.ads")
    return codes
