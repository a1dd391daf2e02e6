"""`nearline fit`: the first model of a service, or the next whole one, from `[data]`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

from nearline import config as configs
from nearline.cli import _progress
from nearline.config import Config
from nearline.glmix import GLMix
from nearline.glmix._links import by_name
from nearline.store import Registry, Version


def run(file: Path, why: str, publish: bool, as_object: bool) -> None:
    """Learn priors and coefficients from history, register the model as a version, and publish it."""
    config = configs.load(file)
    table = config.table()
    with _progress.phases(as_object) as say:
        model, found = learn(config, table, say)
    version = keep(config, model, why, publish, found)
    if as_object:
        print(msgspec.json.encode({"version": str(version), "published": publish, **found}).decode())
        return
    console = Console(markup=False, highlight=False, soft_wrap=True)
    state = "live" if publish else "registered"
    console.print(f"version {version} is {state}: learned {table.num_rows:,} events, log loss {found['loss']:.4f}")
    console.print(f"serve it and keep it fresh: nearline run {file}")


def learn(config: Config, table: Any, say: _progress.Say) -> tuple[GLMix, dict[str, float]]:
    """A model that has learned the table event by event, and its loss while it did so."""
    settings = config.tables.fit
    model = config.model()
    if settings.learn_priors:
        say("priors", 0.0)
        recent = table.slice(max(0, table.num_rows - settings.prior_rows))
        model.learn_priors(recent, **msgspec.structs.asdict(settings.priors))
    say("learning history", 0.0)
    design, _ = model.design(table, learn=True)
    margin = model.progressive(design).margin
    loss = by_name(model.link).loss(design.label, margin)
    return model, {"events": float(table.num_rows), "loss": float(np.average(loss, weights=design.weight))}


def keep(config: Config, model: GLMix, why: str, publish: bool, metrics: dict[str, float]) -> Version:
    """Register a model as the next whole version, and publish it."""
    registry = Registry(config.running().folder, clock=time.time)
    try:
        known = registry.versions()
        version = Version(1 + max((record.version.whole for record in known), default=0))
        staged = model.save(registry.stage())
        registry.register(staged, version, who="fit", why=why, metrics=metrics, config=config.digest())
        if publish:
            registry.publish(version, who="fit", why=why)
    finally:
        registry.close()
    return version
