"""A small marketplace."""

from __future__ import annotations

from nearline.simulate import Marketplace

SMALL = Marketplace(
    members=60, ads=30, campaigns=6, days=1.0, events=3_000, shocks=((0.5, 0.9),), ad_lifetime=0.3, seed=3
)
