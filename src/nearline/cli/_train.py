"""`nearline train`: the network goes on learning from the ledger, on the rows that are worth it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from nearline import config as configs
from nearline._errors import ConfigError, StateError
from nearline.cli import _progress, _training
from nearline.cli._training import Candidate
from nearline.config import Config
from nearline.deep import NetworkGLMix, load_model
from nearline.loop import (
    Committed,
    History,
    Offered,
    SelectionLog,
    Trainee,
    following,
    quality,
    refit,
    summary,
    train,
)
from nearline.select import Policy, SelectorState
from nearline.store import Record, Registry, Version

if TYPE_CHECKING:
    from nearline.deep import Network

TRAINED, SHADOW = "trained", "shadow"
"""The network that is served, and the one for comparison; the latter is in a folder of this name in the version's."""


def run(file: Path, why: str, publish: bool, as_object: bool) -> None:
    """Train, register the next global version, and publish it if the gate lets it."""
    config = configs.load(file)
    _training.confine(config)
    with _training.registry_of(config) as registry:
        _training.live_model(registry, file)
        live = registry.live()
        assert live is not None  # `live_model` said so
        with _progress.phases(as_object) as say:
            made, logs = candidate(config, registry, live, say)
        for shadow, log in enumerate(logs):
            SelectionLog(registry.folder).write(made.version, log, shadow=bool(shadow))
        _training.keep(config, registry, made, "train", why)
        reasons = None
        if publish and config.tables.deep.publish:
            reasons = _training.publish(config, registry, made.version, "train", why, live.version, as_object)
    _training.report(made, reasons, file, as_object)
    if reasons:
        sys.exit(1)


def candidate(config: Config, registry: Registry, live: Record, say: _progress.Say) -> tuple[Candidate, list[pa.Table]]:
    """The live line's global version, its network trained on what came since; and the logs of what was chosen."""
    whole, network = registry.record(Version(live.version.whole)), config.tables.fixed.network
    folder = registry.path(whole.version)
    base = load_model(folder, device="cpu" if network is None else network.device)
    if not isinstance(base, NetworkGLMix) or network is None:
        raise ConfigError(
            f"{config.file}: version {whole.version} has no network to train; add [fixed.network] and make a version "
            "with: nearline fit"
        )
    past, start = _past(folder), whole.positions.get("examples", 0)
    committed, training = Committed.of(registry.folder), config.deep()
    with History(registry.folder, base) as ledger:
        end = _training.cutoff_of(config, ledger, committed)
        _require(start, end, ledger, whole)
        offered = Offered(ledger, base, start, end, whole=whole.version.whole, holdout=config.running().gating.holdout)
        say("training the network on what was chosen", 0.0)
        trainee, log = train(
            _trainee(base.folded(), training.policy, past.get(TRAINED)), offered, training.policy, training
        )
        logs, trained = [log], {TRAINED: _about(trainee, training.policy, log, past.get(TRAINED))}
        also: dict[str, Any] = {}
        if training.shadow is not None:
            other = _shadow(folder, base, training.shadow, past)
            shadow, log = train(other, offered, training.shadow, training)
            logs, also = [*logs, log], {SHADOW: shadow.network}
            trained[SHADOW] = _about(shadow, training.shadow, log, past.get(SHADOW))
        say("learning the random effects on it", 0.0)
        model = NetworkGLMix.of(base.effects(), trainee.network)
        found = refit(model, model.told(_training.trained_on(config, ledger.table(model, start, end))))
        unseen = ledger.table(model, end, committed.positions["examples"])
    for name, one in ((TRAINED, trainee.network), *also.items()):
        if unseen.num_rows:
            trained[name]["quality"] = following(past.get(name, {}).get("quality"), quality(one, unseen))
    version = Version(1 + max(record.version.whole for record in registry.versions()))
    metrics = {"events": float(found.events), "loss": found.loss, **_numbers(trained[TRAINED])}
    return Candidate(found.model, version, start, end, metrics, {"selection": trained}, whole.version, also), logs


def _past(folder: Path) -> dict[str, Any]:
    """What earlier trainings of this line have left in the version's training.json."""
    path = folder / _training.TRAINING
    found = msgspec.json.decode(path.read_bytes()) if path.exists() else {}
    past: dict[str, Any] = found.get("selection", {})
    return past


def _require(start: int, end: int, ledger: History, whole: Record) -> None:
    if start < ledger.first:
        raise StateError(
            f"the ledger begins at example {ledger.first}, version {whole.version} has learned those before {start}: "
            "what lies between is no longer kept; make a new global version with: nearline fit --on both"
        )
    if end <= start:
        raise StateError(
            f"nothing to train on: no example came after version {whole.version} (from {start} on) besides those that "
            "[training] judge keeps for the gate"
        )


def _trainee(network: Network, policy: Policy, past: dict[str, Any] | None) -> Trainee:
    """A network with what its selector remembers; nothing where another selector was at work."""
    if not past:
        return Trainee(network, SelectorState())
    same = past["key"] == policy.key
    return Trainee(network, SelectorState.from_json(past["state"]) if same else SelectorState(), past["total_windows"])


def _shadow(folder: Path, base: NetworkGLMix, policy: Policy, past: dict[str, Any]) -> Trainee:
    """The network for comparison: as the last training left it, or the live one where there was none."""
    from nearline.deep import Network

    if not (folder / SHADOW).exists():
        return _trainee(base.folded(), policy, None)
    return _trainee(Network.load(folder / SHADOW, device=base.network.device), policy, past.get(SHADOW))


def _about(trainee: Trainee, policy: Policy, log: pa.Table, past: dict[str, Any] | None) -> dict[str, Any]:
    """What is kept of a training in the version's folder."""
    now, before = summary(log), past or {}
    totals = {f"total_{name}": before.get(f"total_{name}", 0) + now[name] for name in ("seen", "chosen")}
    return {
        **now, **totals, "total_windows": trainee.windows, "key": policy.key, "state": trainee.state.to_json(),
    }  # fmt: skip


def _numbers(trained: dict[str, Any]) -> dict[str, float]:
    return {
        name: trained[name] for name in ("seen", "chosen", "effective", "uniform_share", "kappa") if name in trained
    }
