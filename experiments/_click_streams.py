"""Streams of clicks for training a network in windows: three drifting worlds with known truth or real events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import nearline as nl
from nearline import deep, simulate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stream:
    """Events in order of time, the windows they are learned in, and the network that learns them.

    `truth` is the margin of every event under the probabilities that made it; None where nobody knows it. `time` is
    when every event happened, seconds; None where the stream has no clock. Of the keys that a ledger keeps of every row
    and the network embeds, `entity` is the one whose events come in bursts, `items` are the others.
    """

    table: Any
    window: int
    network: Callable[[int], deep.Network]
    truth: Floats | None = None
    time: Floats | None = None
    entity: str | None = None
    items: tuple[str, ...] = ()


def drifting(seed: int, quick: bool) -> Stream:
    """T3 of the specification: 30 Gaussian features, weights that walk, about 11 % clicks; one linear layer.

    Its step of plain descent is the specification's, 0.5.
    """
    rng, d, n, windows = np.random.default_rng([3, seed]), 30, 1_000, 60 if quick else 600
    steps = rng.normal(0.0, 0.003, (windows, d))
    steps[0] = rng.normal(0.0, 0.35, d)
    x = rng.normal(size=(windows, n, d))
    truth = np.einsum("tnd,td->tn", x, np.cumsum(steps, axis=0)).ravel() - 3.2
    clicked = rng.random(windows * n) < 1 / (1 + np.exp(-truth))
    features = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), d)
    table = pa.table({"x": features, "clicked": clicked.astype(np.int8)})
    schema = nl.Schema(label="clicked", columns={"x": nl.Vector()})
    settings = deep.Optimiser(rule="sgd", learning_rate=0.5, batch_size=n)
    return Stream(table, n, partial(_network, schema, ("x",), deep.MLP(hidden=()), settings), truth)


def market(seed: int, quick: bool) -> Stream:
    """The simulated marketplace without members' and ads' own tastes, which are the random effects' business.

    What is left is the fixed effect's: features whose coefficients drift with a half-life of ten days, 5 % clicks.
    """
    n = 500
    drift = simulate.Drift(member_size=0.0, campaign_size=0.0, ad_size=0.0, fixed_half_life=10.0)
    events = 20_000 if quick else 300_000
    table = simulate.stream(simulate.Marketplace(events=events, seed=seed, base_rate=0.05, shocks=(), drift=drift))
    p = table["true_probability"].to_numpy()
    columns = ("country", "device", "age_group", "interests", "category", "advertiser", "price", "formats")
    network = partial(_network, nl.Schema(label="clicked"), columns, deep.MLP((64, 32), 8), _adam(n, 0.005, 0.1))
    return Stream(table, n, network, np.log(p / (1 - p)), _seconds(table))


def movielens(seed: int, quick: bool) -> Stream:
    """MovieLens-1M, liked is 4 or 5, ratings of 3 dropped; members, movies and features, embedded; dot products."""
    del seed
    n = 1_000
    table = nl.datasets.movielens_1m(ratings="no_threes")
    names = ("user_id", "movie_id", "age", "occupation")
    schema = nl.Schema(label="liked", columns={name: nl.Categorical() for name in names})
    columns = (*names, "gender", "genres", "year")
    network = partial(_network, schema, columns, deep.DLRM((16,), (32,), 8), _adam(n, 0.003, 0.1))
    table = table.slice(0, 20 * n if quick else 10**9)
    return Stream(table, n, network, time=_seconds(table), entity="user_id", items=("movie_id",))


def bank(seed: int, quick: bool) -> Stream:
    """Bank Marketing in order of date, without the call's duration, known only afterwards; embeddings and an MLP."""
    del seed
    n = 100
    table = nl.datasets.bank_marketing()
    names = ("job", "marital", "education", "default", "housing", "loan", "contact", "month", "poutcome")
    schema = nl.Schema(label="y")
    columns = ("age", "balance", "campaign", "pdays", "previous", *names)
    network = partial(_network, schema, columns, deep.MLP((64, 32), 8), _adam(n, 0.001, 0.05))
    table = table.slice(0, 20 * n if quick else 10**9)
    return Stream(table, n, network, time=_seconds(table))


STREAMS: dict[str, Callable[[int, bool], Stream]] = {
    "drifting clicks (T3)": drifting, "simulator": market, "MovieLens-1M": movielens, "Bank Marketing": bank,
}  # fmt: skip


def _seconds(table: pa.Table) -> Floats:
    return np.asarray(table["timestamp"], np.float64)


def _adam(batch: int, rate: float, embedding_rate: float) -> deep.Optimiser:
    """Rates with which training on everything does best, of a few that were tried."""
    return deep.Optimiser(learning_rate=rate, embedding_rate=embedding_rate, batch_size=batch)


def _network(
    schema: nl.Schema, columns: tuple[str, ...], architecture: Any, optimiser: deep.Optimiser, seed: int
) -> deep.Network:
    return deep.Network(schema, columns, architecture=architecture, optimiser=optimiser, seed=seed)
