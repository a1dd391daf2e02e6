"""What a simulated marketplace is made of: sizes, drift, shocks, lifetimes, delays."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from nearline._errors import ConfigError

START = 1_767_225_600.0
"""2026-01-01 00:00 UTC, in seconds since the epoch: the time of day 0."""

DAY = 86_400.0


@dataclass(frozen=True)
class Drift:
    """How large each effect is and how fast it changes.

    Every coefficient is a stationary Ornstein-Uhlenbeck process: after Δ days it is ρ times what it was plus
    √(1 − ρ²) fresh noise, with ρ = 2^(−Δ / half_life), so its spread stays the same. A `size` is the standard
    deviation, in logits, that the effect adds to the score; a `half_life` is in days, `inf` for no change. An ad's
    coefficients are its campaign's plus its own: `ad_size` is the spread of ads within a campaign.

    >>> Drift.off().member_half_life
    inf
    """

    fixed_size: float = 1.2
    fixed_half_life: float = 30.0
    member_size: float = 1.2
    member_half_life: float = 8.0
    campaign_size: float = 0.7
    campaign_half_life: float = 3.0
    ad_size: float = 1.1
    ad_half_life: float = 1.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not (value > 0 or (value == 0 and item.name.endswith("size"))) or (
                math.isinf(value) and item.name.endswith("size")
            ):
                raise ConfigError(f"Drift({item.name}=...) must be positive (a size may be 0); got {value}")

    @classmethod
    def off(cls) -> Drift:
        """Effects of the default sizes that never change."""
        return cls(**{item.name: math.inf for item in fields(cls) if item.name.endswith("half_life")})


@dataclass(frozen=True)
class Delay:
    """How long an outcome takes: gamma with this mean (seconds) and shape; a share `never` of them does not arrive."""

    mean: float = 600.0
    shape: float = 1.0
    never: float = 0.02

    def __post_init__(self) -> None:
        if not (self.mean >= 0 and self.shape > 0 and 0 <= self.never <= 1):
            raise ConfigError(f"Delay needs mean >= 0, shape > 0 and 0 <= never <= 1; got {self}")


@dataclass(frozen=True)
class Marketplace:
    """Configuration of a simulated marketplace of members and ads; the same values give the same events.

    `shocks` are (day, size) pairs: then each ad and campaign coefficient β becomes √(1 − size²) β + size · fresh noise,
    so size 1 redraws them all and 0 changes nothing. `waves` are (day, share) pairs: so large a share of the ads yet to
    come appears then, at once. `ad_lifetime` is the mean life of an ad in days (gamma, shape 4);
    ads appear all the time and the live ones share the events. `base_rate` is the mean click probability on day 0.
    Coefficients move every `step` seconds and are constant in between. Raises `ConfigError` for a value out of range.

    >>> Marketplace(events=10_000, seed=7).days
    7.0
    """

    members: int = 2_000
    ads: int = 300
    campaigns: int = 30
    days: float = 7.0
    events: int = 200_000
    drift: Drift = field(default_factory=Drift)
    shocks: tuple[tuple[float, float], ...] = ((2.5, 0.8), (5.0, 0.8))
    ad_lifetime: float = 2.0
    delay: Delay = field(default_factory=Delay)
    base_rate: float = 0.2
    seed: int = 0
    step: float = 600.0
    waves: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        for name in ("members", "ads", "campaigns", "days", "ad_lifetime", "step"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"Marketplace({name}=...) must be positive; got {getattr(self, name)}")
        if self.events < 0 or self.seed < 0 or not 0 < self.base_rate < 1:
            raise ConfigError("Marketplace needs events >= 0, seed >= 0 and 0 < base_rate < 1")
        if any(not (day >= 0 and 0 <= size <= 1) for day, size in self.shocks):
            raise ConfigError(f"Marketplace(shocks=...) are (day >= 0, 0 <= size <= 1) pairs; got {self.shocks}")
        if any(not (day >= 0 and share >= 0) for day, share in self.waves) or sum(s for _, s in self.waves) > 1:
            raise ConfigError(f"Marketplace(waves=...) are (day >= 0, share) pairs of sum <= 1; got {self.waves}")
