"""A `nearline.toml`, read and checked: the model, the events and the backtest that it describes."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from nearline._errors import ConfigError, DataError
from nearline.config import _data, _deep, _learning, _running
from nearline.config._all_tables import Tables
from nearline.config._deep_tables import DeepTable
from nearline.config._explain import explain
from nearline.config._running import Running
from nearline.config._tables import (
    CategoricalTable,
    Column,
    ForgettingTable,
    HashedTable,
    LoadingsTable,
    MultiTable,
    NumericTable,
    PriorTable,
    RandomTable,
    VariantTable,
)
from nearline.evaluate import Backtest, Named, Variant, backtest, default_variants, named
from nearline.glmix import Fixed, FixedFit, Forgetting, GLMix, Loadings, Prior, Random, RandomFit
from nearline.glmix._layout import key_of
from nearline.glmix._replay import seconds
from nearline.schema import Categorical, ColumnKind, Hashed, Multi, Numeric, Schema, Vector, key_columns

if TYPE_CHECKING:
    from nearline.loop import Training


@dataclass(frozen=True, slots=True)
class Config:
    r"""What a `nearline.toml` says.

    Attributes
    ----------
    file
        Where it was read from; paths in it are relative to this file's folder.
    tables
        Its tables as they were written, with defaults filled in.

    Examples
    --------
    >>> text = '[schema]\nlabel = "liked"\n\n[[random]]\nkey = "user_id"\n'
    >>> loads(text).model()
    GLMix(link='logit', fixed: 1 × 1, user_id: 0 × 1)
    """

    file: Path
    tables: Tables

    def schema(self) -> Schema:
        """What the columns are for."""
        table = self.tables.schema
        with self._at("[schema.columns]"):
            kinds = {name: _kind(column) for name, column in table.columns.items()}
        return Schema(table.label, table.time, table.id, table.weight, table.offset, kinds)

    def model(self) -> GLMix:
        """A new model that has learned nothing; on a network, where there is a `[fixed.network]`."""
        network = self.tables.fixed.network
        if network is None:
            return self.linear()
        with self._at(""):
            return _deep.on_network(network, self._made(self._fixed(())), self.tables.fixed.on)

    def linear(self) -> GLMix:
        """The model whose fixed effect is linear, whether or not there is a network: it reads the same columns."""
        return self._made(self._fixed(self.tables.fixed.on))

    def _made(self, fixed: Fixed) -> GLMix:
        settings = self.tables.model
        schema, random = self.schema(), self._random()
        with self._at(""):
            return GLMix(
                schema, fixed, random, link=settings.link, mode=settings.mode, dtype=settings.dtype,
                dispersion=settings.dispersion, threads=settings.threads,
            )  # fmt: skip

    def deep(self, table: Any = None) -> Training:
        """How the network goes on being trained, as `[deep]` says.

        A `pyarrow.Table` tells the kinds of columns that `[schema.columns]` does not declare.
        """
        with self._at(""):
            if self.tables.fixed.network is not None:
                _deep.check(self.tables.fixed.network, self.schema(), self.tables.fixed.on)
            elif self.tables.deep != DeepTable():
                raise ConfigError(
                    "[deep] trains a network, and there is none: add [fixed.network], or leave [deep] out"
                )
            return _deep.training(
                self.tables.deep, self.tables.model.link, self._recorded(), self.tables.fixed.on, self._kinds(table)
            )

    def _kinds(self, table: Any) -> dict[str, ColumnKind | None]:
        schema = self.schema()
        found = () if table is None else [name for name in self.tables.fixed.on if name in table.column_names]
        return {**schema.columns, **{name: schema.kind(name, table[name].type) for name in found}}

    def _recorded(self) -> tuple[str, ...]:
        """Keys and features, which the ledger keeps of every prediction."""
        encoder = self.linear().encoder
        return (*key_columns(encoder.keys), *encoder.features)

    def train_every(self) -> float | None:
        """Seconds between two trainings of the network by `nearline run`; None where it starts none."""
        with self._at(""):
            return _deep.every(self.tables.deep)

    def table(self, rows: int | None = None) -> Any:
        """The events as a `pyarrow.Table`: at most `rows` of them, in order of time where `[data] sort` asks for it."""
        with self._at(""):
            table = self.read()
            if self.tables.data.sort:
                table = _sorted(table, self.tables.schema.time)
        return table.slice(0, rows)

    def read(self, files: Sequence[str] = ()) -> Any:
        """The rows as they come: of `files` (paths or patterns) where some are named, else of what `[data]` says."""
        return _data.read_files(files, Path()) if files else _data.read(self.tables.data, self.file.parent)

    def variants(self) -> list[Variant] | None:
        """What the backtest compares, None for its defaults."""
        chosen = self.tables.backtest.variants
        return [self._variant(number, table) for number, table in enumerate(chosen, 1)] or None

    def metrics(self) -> list[Named]:
        """Further metrics of the backtest."""
        keys = [str(key_of(block)) for block in self.linear().blocks]
        with self._at("[backtest] metrics"):
            return [named(name, self.tables.model.link, keys) for name in self.tables.backtest.metrics]

    def backtest(self, table: Any = None, progress: Callable[[str, float], None] | None = None) -> Backtest:
        """Progressive validation of `table` (by default the file's own), as `[backtest]` says."""
        settings = self.tables.backtest
        if self.tables.fixed.network is not None:
            raise ConfigError(
                f"{self.file}: a backtest replays linear models; leave [fixed.network] out, or compare as they "
                "serve, with [deep] shadow"
            )
        table = self.table() if table is None else table
        model = self.model()
        design, _ = model.design(table, learn=True)
        learned = None
        if settings.learn_priors:
            (progress or _nothing)("priors", 0.0)
            past = design.take(0, int(design.rows * settings.history))
            learned = _learning.learn_priors(model, past, settings.priors)
        result = backtest(
            model, design, variants=self.variants(), history=settings.history, learn_priors=False,
            truth=self._truth(table), title=self.title(), metrics=settings.metrics, progress=progress,
        )  # fmt: skip
        return replace(result, learned=learned)

    def rehearse(self, table: Any, rows: int) -> None:
        """The backtest in small, on the first `rows` rows, for what that does besides: it compiles every kernel."""
        short = table.slice(0, rows)
        if short.num_rows < 4:
            return
        chosen = self.variants() or default_variants(short.num_rows)
        small = [variant if variant.refit is None else replace(variant, refit=rows // 4) for variant in chosen]
        backtest(self.model(), short, variants=small, history=0.5, learn_priors=False)

    def title(self) -> str:
        """What the report calls the run."""
        data = self.tables.data
        source = data.dataset or data.path or self.file.stem
        return self.tables.backtest.title or (source if isinstance(source, str) else ", ".join(source))

    def report(self) -> Path:
        """Where the backtest's report goes."""
        return self.file.parent / self.tables.backtest.report

    def running(self) -> Running:
        """Settings of the running system: state directory, join, pace, ledger, safety, guard, service."""
        with self._at(""):
            return _running.running(self.tables, self.file.parent)

    def refit_every(self) -> float | None:
        """Seconds between two re-fits that `nearline run` starts by itself; None where it starts none."""
        every, training = self.tables.refit.every, self.tables.training
        with self._at(""):
            for name, value, least in (("nice", training.nice, 0), ("judge", training.judge, 0)):
                if value < least:
                    raise ConfigError(f"[training] {name} = {value} must be at least {least}")
            if training.memory_gb is not None and not training.memory_gb > 0:
                raise ConfigError(f"[training] memory_gb = {training.memory_gb} must be above 0")
            found = seconds(every) if isinstance(every, str) else every
            if found is not None and not found > 0:
                raise ConfigError(f"[refit] every = {found} must be above 0 seconds")
        return found

    def digest(self) -> str:
        """Hash of what the file says, recorded with every version made from it."""
        return hashlib.sha256(msgspec.json.encode(self.tables, order="deterministic")).hexdigest()

    def _truth(self, table: Any) -> Any:
        name = self.tables.backtest.truth
        if name is None:
            return None
        if name not in table.column_names:
            raise DataError("the table has no such column", column=name, fix="correct [backtest] truth or leave it out")
        return np.asarray(table[name], dtype=np.float64)

    def _fixed(self, on: Sequence[str]) -> Fixed:
        table = self.tables.fixed
        with self._at("[fixed]"):
            return Fixed(
                *on, intercept=table.intercept, free_intercept=table.free_intercept,
                fit=FixedFit(**msgspec.structs.asdict(table.fit)), **_posterior(table), **_beliefs(table),
            )  # fmt: skip

    def _random(self) -> list[Random | Loadings]:
        return [
            *(self._random_effect(number, table) for number, table in enumerate(self.tables.random, 1)),
            *(self._loadings(number, table) for number, table in enumerate(self.tables.loadings, 1)),
        ]

    def _random_effect(self, number: int, table: RandomTable) -> Random:
        with self._at(f"[[random]] number {number}"):
            return Random(
                table.key, table.on, intercept=table.intercept, parent=table.parent, name=table.name,
                fit=RandomFit(**msgspec.structs.asdict(table.fit)), **_posterior(table), **_beliefs(table),
            )  # fmt: skip

    def _loadings(self, number: int, table: LoadingsTable) -> Loadings:
        with self._at(f"[[loadings]] number {number}"):
            return Loadings(table.key, table.of, name=table.name, **_beliefs(table))

    def _variant(self, number: int, table: VariantTable) -> Variant:
        with self._at(f"[[backtest.variants]] number {number}"):
            for name in ("every", "refit"):
                value = getattr(table, name)
                if isinstance(value, str):
                    seconds(value)
                elif value is not None and value < 1:
                    raise ConfigError(f"{name} = {value} must be at least 1 row")
            return Variant(table.name, table.learns, table.every, table.refit, table.recalibrate)

    def _check_adjust(self) -> None:
        model = self.linear()
        for place, priors in (("fit", self.tables.fit.priors), ("backtest", self.tables.backtest.priors)):
            with self._at(f"[{place}.priors.adjust]"):
                for name in _learning.adjustments(priors):
                    model.block(name)

    @contextmanager
    def _at(self, place: str) -> Iterator[None]:
        """Errors of what a table is turned into, with the file and the table in front."""
        try:
            yield
        except ConfigError as error:
            raise ConfigError(f"{self.file}: {place + ': ' if place else ''}{error}") from error


def load(path: str | os.PathLike[str]) -> Config:
    """Read a `nearline.toml` and check all of it, its data apart.

    Raises
    ------
    ConfigError
        No such file, no TOML, an unknown field, a wrong type or a value out of range; names the file and the field.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error
    return loads(text, file)


def loads(text: str, file: str | os.PathLike[str] = "nearline.toml") -> Config:
    r"""As `load`, from a string that stands for `file`.

    Examples
    --------
    >>> loads('schema = {label = "liked"}\nmodel = {dtype = "int8"}')
    Traceback (most recent call last):
        ...
    nearline._errors.ConfigError: nearline.toml: [model] dtype: 'int8' is not allowed; it is one of 'float32', 'float64'
    """
    try:
        return parse(tomllib.loads(text), Path(file))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error


def parse(document: dict[str, Any], file: Path) -> Config:
    """As `loads`, from what TOML was parsed to."""
    try:
        config = Config(file, msgspec.convert(document, Tables, strict=True))
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: {explain(error, document, Tables)}") from error
    config._check_adjust()
    config.deep()
    config.train_every()
    config.variants()
    config.metrics()
    config.running()
    config.refit_every()
    return config


def _nothing(name: str, share: float) -> None:
    """No one waits."""


def _kind(column: Column) -> ColumnKind:
    match column:
        case NumericTable(center=center, scale=scale):
            return Numeric(center, scale)
        case CategoricalTable():
            return Categorical()
        case MultiTable(sep=sep):
            return Multi(sep)
        case HashedTable(bits=bits):
            return Hashed(bits)
    return Vector()


def _posterior(table: Any) -> dict[str, Any]:
    return {"posterior": table.posterior, "rank": table.rank}


def _beliefs(table: Any) -> dict[str, Any]:
    """Prior and forgetting where the file has them; the effect's own defaults hold otherwise."""
    given: dict[str, Any] = {}
    if table.prior is not None:
        given["prior"] = _prior(table.prior)
    if table.forgetting is not None:
        given["forgetting"] = _forgetting(table.forgetting)
    return given


def _prior(table: PriorTable) -> Prior:
    return Prior(mean=table.mean) if table.variance is None else Prior(table.variance, table.mean)


def _forgetting(table: ForgettingTable) -> Forgetting:
    half_life = seconds(table.half_life) if isinstance(table.half_life, str) else table.half_life
    return Forgetting(half_life, table.form, table.delta, table.walk_per_event, table.walk_per_day)


def _sorted(table: Any, time: str | None) -> Any:
    """Rows in order of time; rows of equal time keep their order."""
    if time is None:
        raise ConfigError("[data] sort: needs [schema] time, the column to sort by")
    if time not in table.column_names:
        raise DataError("the table has no such column", column=time, fix="correct [schema] time")
    order = np.argsort(table[time].to_numpy(), kind="stable")
    return table.take(order)
