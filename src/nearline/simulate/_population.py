"""Who is in the marketplace: members and ads, their features, and the design matrices the truth is linear in.

A design matrix has one block of columns per feature (one-hot, multi-hot or one number) and, where asked, an intercept
block. Each block is scaled to a mean square row norm of 1 / number of blocks, so that coefficients of standard
deviation s add about s to the spread of the score, each feature its equal part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.simulate._config import DAY, Marketplace

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COUNTRIES = ("AU", "BR", "CA", "DE", "FR", "GB", "IN", "US")
DEVICES = ("desktop", "phone", "tablet")
AGE_GROUPS = ("18-24", "25-34", "35-49", "50+")
INTERESTS = ("books", "cars", "cooking", "fashion", "finance", "games", "music", "sports", "technology", "travel")
CATEGORIES = ("electronics", "fashion", "food", "home", "jobs", "travel")
FORMATS = ("banner", "carousel", "text", "video")


@dataclass(frozen=True)
class Population:
    """Feature tables and design matrices; row i of each belongs to member i or ad i.

    `born` and `gone` (ads) are the grid positions between which an ad is live; `activity` (members) and `popularity`
    (ads) are how often each is drawn; `campaign` (ads) is the campaign of each ad.
    """

    members: pa.Table
    ads: pa.Table
    member_design: Floats
    ad_design: Floats
    fixed_member_design: Floats
    fixed_ad_design: Floats
    campaign: Ints
    activity: Floats
    popularity: Floats
    born: Ints
    gone: Ints


def populate(config: Marketplace, edges: Floats, rng: np.random.Generator) -> Population:
    """Draw members and ads; `edges` is the time grid (seconds since day 0) that ads are born and retired on."""
    members, member_blocks = _members(config, rng)
    ads, ad_blocks, campaign, advertiser = _ads(config, rng)
    born, gone = _lives(config, edges, rng)
    parts = len(member_blocks) + len(ad_blocks) + 1
    return Population(
        members,
        ads,
        _design([np.ones((config.members, 1)), *member_blocks]),
        _design([np.ones((config.ads, 1)), *ad_blocks]),
        _design(member_blocks, parts),
        _design([*ad_blocks, advertiser], parts),
        campaign,
        rng.lognormal(0.0, 0.8, config.members),
        rng.lognormal(0.0, 0.5, config.ads),
        born,
        gone,
    )


def _members(config: Marketplace, rng: np.random.Generator) -> tuple[pa.Table, list[Floats]]:
    n = config.members
    country, device, age = (_skewed(rng, n, len(names)) for names in (COUNTRIES, DEVICES, AGE_GROUPS))
    interests = _subsets(rng, n, len(INTERESTS), 3)
    table = pa.table(
        {
            "member_id": np.arange(n, dtype=np.int64),
            "country": _names(COUNTRIES, country),
            "device": _names(DEVICES, device),
            "age_group": _names(AGE_GROUPS, age),
            "interests": _lists(INTERESTS, interests),
        }
    )
    blocks: list[Floats] = [
        np.eye(len(COUNTRIES))[country],
        np.eye(len(DEVICES))[device],
        np.eye(len(AGE_GROUPS))[age],
        interests,
    ]
    return table, blocks


def _ads(config: Marketplace, rng: np.random.Generator) -> tuple[pa.Table, list[Floats], Ints, Floats]:
    n, advertisers = config.ads, max(1, config.campaigns // 2)
    campaign = rng.integers(0, config.campaigns, n)
    category = _skewed(rng, config.campaigns, len(CATEGORIES))[campaign]
    advertiser = rng.integers(0, advertisers, config.campaigns)[campaign]
    price = np.maximum(1 + 0.4 * rng.standard_normal(n), 0.05).round(2)
    formats = _subsets(rng, n, len(FORMATS), 2)
    table = pa.table(
        {
            "ad_id": np.arange(n, dtype=np.int64),
            "campaign_id": campaign,
            "category": _names(CATEGORIES, category),
            "advertiser": _names([f"advertiser {k}" for k in range(advertisers)], advertiser),
            "price": price,
            "formats": _lists(FORMATS, formats),
        }
    )
    blocks: list[Floats] = [np.eye(len(CATEGORIES))[category], ((price - 1) / 0.4)[:, None], formats]
    return table, blocks, campaign, np.eye(advertisers)[advertiser]


def _lives(config: Marketplace, edges: Floats, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Grid positions of birth and end: a stationary mix, then a constant birth rate; some ad is always live."""
    n, span, life = config.ads, config.days, rng.gamma(4.0, config.ad_lifetime / 4, config.ads)
    present = max(1, round(n * config.ad_lifetime / (span + config.ad_lifetime)))
    start = np.r_[np.zeros(present), np.sort(_gathered(rng.uniform(0, span, n - present), config.waves))]
    life[:present] *= rng.random(present)
    born = np.searchsorted(edges, start * DAY)
    gone = np.maximum(np.searchsorted(edges, (start + life) * DAY), born + 1)
    following = np.r_[born[1:], len(edges)]
    return born, np.maximum(gone, following)


def _gathered(start: Floats, waves: tuple[tuple[float, float], ...]) -> Floats:
    """Births (n, days, in random order), the share of each wave moved to its day."""
    ends = np.round(np.cumsum([share for _, share in waves]) * len(start)).astype(np.int64)
    for (day, _), begin, end in zip(waves, np.r_[0, ends], ends):
        start[begin:end] = day
    return start


def _skewed(rng: np.random.Generator, n: int, k: int) -> Ints:
    share = 1 / np.arange(1, k + 1) ** 0.5
    return rng.choice(k, n, p=share / share.sum())


def _subsets(rng: np.random.Generator, n: int, k: int, most: int) -> Floats:
    """Multi-hot rows (n, k) with 1 to `most` ones each."""
    rank = np.argsort(np.argsort(rng.random((n, k)), axis=1), axis=1)
    return (rank < rng.integers(1, most + 1, n)[:, None]).astype(np.float64)


def _names(names: tuple[str, ...] | list[str], code: Ints) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(code))


def _lists(names: tuple[str, ...], held: Floats) -> pa.Array:
    rows, columns = np.nonzero(held)
    offsets = np.searchsorted(rows, np.arange(len(held) + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), _names(names, columns))


def _design(blocks: list[Floats], parts: int | None = None) -> Floats:
    parts = parts or len(blocks)
    return np.hstack([block / np.sqrt(parts * np.mean(np.sum(block**2, axis=1))) for block in blocks])
