"""`nearline fit`: the first model of a service, or the next whole one, from `[data]`, from the ledger, or from both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa

from nearline import config as configs
from nearline._errors import ConfigError
from nearline.cli import _progress, _training
from nearline.cli._training import Candidate
from nearline.config import Config, learn_priors
from nearline.config._live_tables import FitTable
from nearline.deep import NetworkGLMix
from nearline.glmix import GLMix
from nearline.glmix._links import by_name
from nearline.loop import Committed, History
from nearline.store import Record, Registry, Version

On = Literal["data", "ledger", "both"]


def run(file: Path, why: str, publish: bool, as_object: bool, on: On | None = None, cutoff: int | None = None) -> None:
    """Learn priors and coefficients from history, register the model as a version, and publish it."""
    config = configs.load(file)
    _training.confine(config)
    made, reasons = make(config, why, publish, as_object, on, cutoff)
    _training.conclude(made, reasons, file, as_object)


def make(
    config: Config, why: str, publish: bool, quiet: bool, on: On | None = None, cutoff: int | None = None
) -> tuple[Record, tuple[str, ...] | None]:
    """The next whole version, registered and, unless the gate refuses it, published; with the gate's reasons."""
    with _training.registry_of(config) as registry:
        live = registry.live()
        with _progress.phases(quiet) as say:
            found = candidate(config, registry, say, on or config.tables.fit.on, cutoff)
        made = _training.keep(config, registry, found, "fit", why)
        if not publish:
            return made, None
        before = None if live is None else live.version
        return made, _training.publish(config, registry, made.version, "fit", why, before, quiet)


def candidate(config: Config, registry: Registry, say: _progress.Say, on: On, cutoff: int | None) -> Candidate:
    """A model of the whole history, as the next whole version."""
    tables, start, end = history(config, registry, on, cutoff)
    model, found = learn(config, [_training.trained_on(config, table) for table in tables], say)
    version = Version(1 + max((record.version.whole for record in registry.versions()), default=0))
    return Candidate(model, version, start, end, found, {"on": on, "fit": msgspec.to_builtins(config.tables.fit)})


def history(config: Config, registry: Registry, on: On, cutoff: int | None) -> tuple[list[Any], int, int]:
    """Tables to learn from, and the examples [start, cutoff) of the ledger that are in them."""
    committed = Committed.of(registry.folder)
    tables = [config.table()] if on != "ledger" else []
    served = bool(committed.positions.get("examples"))
    if on == "data" and not served:
        return tables, 0, 0
    live = _training.live_model(registry, config.file)
    if not served:
        raise ConfigError(f"the ledger holds no examples yet; serve first: nearline run {config.file}")
    with History(registry.folder, live) as ledger:
        if on == "data":
            start = ledger.first if cutoff is None else cutoff
            if cutoff is None:
                _require_apart(config, tables[0], ledger)
            return tables, start, start
        end = _training.cutoff_of(config, ledger, committed) if cutoff is None else cutoff
        if end <= ledger.first:
            raise ConfigError(
                f"the ledger holds no examples before {end}, where a fit is cut off ([training] judge keeps the newest "
                f"for the gate); serve on: nearline run {config.file}"
            )
        return [*tables, ledger.table(config.model(), ledger.first, end)], ledger.first, end


def _require_apart(config: Config, table: Any, ledger: History) -> None:
    """Refuse to guess whether [data] holds what the ledger recorded: it would be lost, or count twice."""
    time, first = config.tables.schema.time, ledger.first_time()
    if time is None or first is None or not table.num_rows:
        return
    last = float(np.max(table[time].to_numpy()))
    if last >= first:
        raise ConfigError(
            f"[data] reaches to time {last:.0f} and the ledger begins at {first:.0f}: say which examples of the ledger "
            "are in [data] with --cutoff POSITION (those before it are; 0: none), or fit with --on ledger or --on both"
        )


def learn(config: Config, tables: Sequence[Any], say: _progress.Say) -> tuple[GLMix, dict[str, float]]:
    """A model that has learned the tables, and how that went: event by event, its loss before each; or as one batch."""
    settings, network = config.tables.fit, config.tables.fixed.network
    model = config.model()
    if isinstance(model, NetworkGLMix) and network is not None:
        config.deep(tables[0])
        say("training the network", 0.0)
        model.fit_network(tables, epochs=network.epochs)
    if settings.learn_priors:
        say("priors", 0.0)
        recent = max((_newest(table, settings.prior_rows) for table in reversed(tables)), key=len)
        learn_priors(model, recent, settings.priors)
    if settings.method == "batch":
        say("batch fit", 0.0)
        return model, as_batch(model, _joined(tables), settings)
    say("learning history", 0.0)
    return model, by_event(model, tables)


def as_batch(model: GLMix, table: Any, settings: FitTable) -> dict[str, float]:
    """Fit all blocks at once (`GLMix.fit`): objective, cycles, unsolved entities, and the loss on what it learned."""
    design, _ = model.design(table, learn=True)
    done = model.fit(design, cycles=settings.cycles, tolerance=settings.tolerance)
    loss = by_name(model.link).loss(design.label, model.decision_function(design))
    return {
        "events": float(design.rows), "loss": float(np.average(loss, weights=design.weight)),
        "objective": done.objective[-1], "cycles": float(len(done.objective)),
        "unsolved": float(sum(done.unsolved.values())),
    }  # fmt: skip


def by_event(model: GLMix, tables: Sequence[Any]) -> dict[str, float]:
    """Predict and learn each event in turn; the loss of the predictions."""
    losses, weights = [], []
    for table in tables:
        design, _ = model.design(table, learn=True)
        margin = model.progressive(design).margin
        losses.append(by_name(model.link).loss(design.label, margin))
        weights.append(design.weight)
    loss, weight = np.concatenate(losses), np.concatenate(weights)
    return {"events": float(len(loss)), "loss": float(np.average(loss, weights=weight))}


def _joined(tables: Sequence[Any]) -> Any:
    """Tables one after the other, in the columns that all of them have."""
    names = [name for name in tables[0].column_names if all(name in table.column_names for table in tables)]
    return pa.concat_tables([table.select(names) for table in tables], promote_options="permissive")


def _newest(table: Any, rows: int) -> Any:
    return table.slice(max(0, table.num_rows - rows))
