"""The tables of `nearline.toml`, one struct each: what may be written, its type and its default.

Ranges are checked by what the tables are turned into (`Schema`, `Random`, `Marketplace`, ...), so that a file and the
Python API refuse the same things in the same words.
"""

from __future__ import annotations

from typing import Literal

import msgspec

PerColumn = float | dict[str, float]
Duration = float | str
Posterior = Literal["auto", "full", "diagonal", "lowrank"]
Dataset = Literal["movielens-1m", "movielens-100k", "bank-marketing", "elec2", "marketplace"]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table whose fields are all known."""


class MarketplaceTable(Table, frozen=True):
    """`[data.marketplace]`: the simulated marketplace, as `nearline.simulate.Marketplace`."""

    members: int = 2_000
    ads: int = 300
    campaigns: int = 30
    days: float = 7.0
    events: int = 200_000
    shocks: tuple[tuple[float, float], ...] = ((2.5, 0.8), (5.0, 0.8))
    ad_lifetime: float = 2.0
    base_rate: float = 0.2
    seed: int = 0
    step: float = 600.0
    waves: tuple[tuple[float, float], ...] = ()


class DataTable(Table, frozen=True):
    """`[data]`: files, or a data set by name."""

    path: str | tuple[str, ...] | None = None
    dataset: Dataset | None = None
    folder: str | None = None
    ratings: Literal["all", "no_threes"] = "no_threes"
    marketplace: MarketplaceTable | None = None
    rows: int | None = None
    sort: bool = False


class NumericTable(Table, frozen=True, tag="numeric", tag_field="kind"):
    """A column of kind `Numeric`."""

    center: float | None = None
    scale: float | None = None


class CategoricalTable(Table, frozen=True, tag="categorical", tag_field="kind"):
    """A column of kind `Categorical`."""


class MultiTable(Table, frozen=True, tag="multi", tag_field="kind"):
    """A column of kind `Multi`."""

    sep: str | None = None


class VectorTable(Table, frozen=True, tag="vector", tag_field="kind"):
    """A column of kind `Vector`."""


class HashedTable(Table, frozen=True, tag="hashed", tag_field="kind"):
    """A column of kind `Hashed`."""

    bits: int = 18


Column = NumericTable | CategoricalTable | MultiTable | VectorTable | HashedTable


class SchemaTable(Table, frozen=True):
    """`[schema]`: what the columns are for, as `nearline.Schema`."""

    label: str
    time: str | None = None
    id: str | None = None
    weight: str | None = None
    offset: str | None = None
    columns: dict[str, Column] = {}  # msgspec copies an empty default


class ModelTable(Table, frozen=True):
    """`[model]`: settings of `nearline.GLMix` that belong to no effect."""

    link: Literal["logit", "identity", "log"] = "logit"
    mode: Literal["event", "minibatch"] = "event"
    dtype: Literal["float64", "float32"] = "float64"
    dispersion: float = 1.0
    threads: int = 1


class PriorTable(Table, frozen=True):
    """`[fixed.prior]`, `[random.prior]`, `[loadings.prior]`: as `nearline.Prior`; None is the effect's own default."""

    variance: PerColumn | None = None
    mean: PerColumn = 0.0


class ForgettingTable(Table, frozen=True):
    """`[fixed.forgetting]`, `[random.forgetting]`, `[loadings.forgetting]`: as `nearline.Forgetting`."""

    half_life: Duration | None = None
    form: Literal["reverting", "stabilised", "per_update"] = "reverting"
    delta: float = 1.0
    walk_per_event: PerColumn = {}
    walk_per_day: PerColumn = {}


class NetworkTable(Table, frozen=True):
    """`[fixed.network]`: a network on the columns of `[fixed] on`, as `nearline.deep.Network`.

    Sizes that a kind of network does not have are refused; None is the kind's own default.
    """

    kind: Literal["mlp", "dcn", "dlrm"] = "mlp"
    hidden: tuple[int, ...] | None = None
    embedding: int = 16
    cross_layers: int | None = None
    rank: int | None = None
    bottom: tuple[int, ...] | None = None
    top: tuple[int, ...] | None = None
    epochs: int = 3
    rule: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-3
    embedding_rate: float = 0.02
    weight_decay: float = 0.0
    batch_size: int = 256
    seed: int = 0
    device: str = "cpu"


class FixedFitTable(Table, frozen=True):
    """`[fixed.fit]`: what a batch fit does with the fixed effect, as `nearline.FixedFit`."""

    l1: PerColumn = 0.0
    bounds: dict[str, tuple[float, float]] = {}
    normalise: Literal["none", "unit_sd", "max_magnitude", "standardise"] = "none"
    negatives: float = 1.0
    seed: int = 0
    variances: Literal["auto", "none", "diagonal", "exact"] = "auto"
    tolerance: float | None = None


class RandomFitTable(Table, frozen=True):
    """`[random.fit]`: what a batch fit takes of every entity, as `nearline.RandomFit`."""

    least_rows: int = 1
    most_rows: int | None = None
    features_per_row: float | None = None
    seed: int = 0


class FixedTable(Table, frozen=True):
    """`[fixed]`: as `nearline.Fixed`; with a `network`, that on the same columns."""

    on: tuple[str, ...] = ()
    intercept: bool = True
    free_intercept: bool | None = None
    posterior: Posterior = "auto"
    rank: int = 16
    prior: PriorTable | None = None
    forgetting: ForgettingTable | None = None
    fit: FixedFitTable = FixedFitTable()
    network: NetworkTable | None = None


class RandomTable(Table, frozen=True):
    """`[[random]]`: as `nearline.Random`."""

    key: str | tuple[str, ...]
    on: tuple[str, ...] = ()
    intercept: bool = True
    parent: str | None = None
    posterior: Posterior = "auto"
    rank: int = 16
    name: str | None = None
    prior: PriorTable | None = None
    forgetting: ForgettingTable | None = None
    fit: RandomFitTable = RandomFitTable()


class LoadingsTable(Table, frozen=True):
    """`[[loadings]]`: as `nearline.Loadings`."""

    key: str | tuple[str, ...]
    of: str
    name: str | None = None
    prior: PriorTable | None = None
    forgetting: ForgettingTable | None = None


class VariantTable(Table, frozen=True):
    """`[[backtest.variants]]`: as `nearline.evaluate.Variant`."""

    name: str
    learns: Literal["all", "fixed", "nothing"] = "all"
    every: int | str = 1
    refit: int | str | None = None
    recalibrate: bool | str = False


class AdjustTable(Table, frozen=True):
    """`[fit.priors.adjust.NAME]`: what changes in an effect's learned priors, as `nearline.glmix.Adjustment`."""

    variance: PerColumn = 1.0
    half_life: Duration | None = None
    walk_per_event: PerColumn | None = None
    walk_per_day: PerColumn | None = None


class PriorsTable(Table, frozen=True):
    """`[backtest.priors]`: how priors are learned from history, as `nearline.GLMix.learn_priors`."""

    method: Literal["one_step", "evidence"] = "one_step"
    rounds: int = 3
    structure: Literal["scalar", "diagonal", "full"] = "full"
    walks: bool = True
    half_lives: bool = True
    every: int | str | None = None
    adjust: dict[str, AdjustTable] = {}


class BacktestTable(Table, frozen=True):
    """`[backtest]`: as `nearline.evaluate.backtest`, and where the report goes."""

    history: float = 0.1
    learn_priors: bool = True
    priors: PriorsTable = PriorsTable()
    truth: str | None = None
    title: str | None = None
    report: str = "backtest.html"
    metrics: tuple[str, ...] = ()
    variants: tuple[VariantTable, ...] = ()
