"""`nearline refit`: random effects re-fitted on the live global fit, from what the service recorded."""

from __future__ import annotations

from pathlib import Path

from nearline import config as configs
from nearline._errors import StateError
from nearline.cli import _progress, _training
from nearline.cli._training import Candidate
from nearline.config import Config
from nearline.deep import load_model
from nearline.loop import Committed, History, refit
from nearline.store import Record, Registry, Version


def run(file: Path, why: str, publish: bool, as_object: bool) -> None:
    """Re-fit, register the next batch version, and publish it if the gate lets it."""
    config = configs.load(file)
    _training.confine(config)
    with _training.registry_of(config) as registry:
        live = _training.live_version(registry, file)
        with _progress.phases(as_object) as say:
            say("re-fitting", 0.0)
            found = candidate(config, registry, live)
        made = _training.keep(config, registry, found, "refit", why)
        reasons = None
        if publish and config.tables.refit.publish:
            reasons = _training.publish(config, registry, made.version, "refit", why, live.version, as_object)
    _training.conclude(made, reasons, file, as_object)


def candidate(config: Config, registry: Registry, live: Record) -> Candidate:
    """The live line's global fit with what the ledger holds after its cut-off, as its next batch version."""
    whole = registry.record(Version(live.version.whole))
    start, committed = whole.positions.get("examples", 0), Committed.of(registry.folder)
    with History(registry.folder, load_model(registry.path(live.version))) as ledger:
        end = _training.cutoff_of(config, ledger, committed)
        if start < ledger.first:
            raise StateError(
                f"the ledger begins at example {ledger.first} and version {whole.version} has learned those before "
                f"{start}: what lies between is no longer kept; make a new global version with: nearline fit --on both"
            )
        if end <= start:
            raise StateError(
                f"nothing to re-fit on: of the examples after version {whole.version} (from {start} on) none is left "
                f"besides the newest {config.tables.training.judge} that [training] judge keeps for the gate"
            )
        base = load_model(registry.path(whole.version))
        found = refit(
            base, _training.trained_on(config, ledger.table(base, start, end)), fixed=config.tables.refit.fixed
        )
    lines = {(record.version.whole, record.version.batch) for record in registry.versions()} | committed.lines
    batch = 1 + max(batch for g, batch in lines if g == whole.version.whole)
    return Candidate(
        found.model, Version(whole.version.whole, batch), start, end,
        {"events": float(found.events), "loss": found.loss}, {"fixed": config.tables.refit.fixed}, whole.version,
    )  # fmt: skip
