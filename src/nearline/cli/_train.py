"""`nearline train`: the network goes on learning from the ledger, on the rows that are worth it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    Unfinished,
    following,
    quality,
    refit,
    summary,
    train,
)
from nearline.loop._versions import TRAINING
from nearline.select import Policy, SelectorState
from nearline.store import Record, Registry, Version

TRAINED, SHADOW = "trained", "shadow"
"""The network that is served, and the one for comparison; the latter is in a folder of this name in the version's."""


def run(file: Path, why: str, publish: bool, as_object: bool) -> None:
    """Train, register the next global version, and publish it if the gate lets it; or do what is left of that where
    the last training was killed after it had registered its version.
    """
    config = configs.load(file)
    _training.confine(config)
    with _training.registry_of(config) as registry, Unfinished(registry.folder) as work:
        live = _training.live_version(registry, file)
        made, began = _left(registry, work, live) or _made(config, registry, work, live, why, as_object)
        reasons: tuple[str, ...] | None = () if live.version.whole == made.version.whole else None
        if reasons is None and publish and config.tables.deep.publish:
            reasons = _training.publish(config, registry, made.version, "train", why, began, as_object)
    _training.conclude(made, reasons, file, as_object)


def _left(registry: Registry, work: Unfinished, live: Record) -> tuple[Record, Version] | None:
    """What a training that was killed had registered, where it is not decided yet what becomes of it; and what was
    live when it began.
    """
    if (left := work.left()) is None:
        return None
    made = next((record for record in registry.versions() if record.version == left.version), None)
    published = any(one.action == "publish" and one.version == left.version for one in registry.history())
    rolled_back = published and live.version.whole != left.version.whole
    if made is None or made.who != "train" or rolled_back:
        return None
    SelectionLog(registry.folder).collect(registry)
    return made, left.live


def _made(
    config: Config, registry: Registry, work: Unfinished, live: Record, why: str, quiet: bool
) -> tuple[Record, Version]:
    """The trained version, registered; and what is live."""
    with _progress.phases(quiet) as say:
        found = candidate(config, registry, live, say)
    work.mark(found.version, live.version)
    return _training.keep(config, registry, found, "train", why), live.version


def candidate(config: Config, registry: Registry, live: Record, say: _progress.Say) -> Candidate:
    """The live line's global version, its network trained on what came since."""
    whole, network = registry.record(Version(live.version.whole)), config.tables.fixed.network
    folder = registry.path(whole.version)
    base = load_model(folder, device="cpu" if network is None else network.device)
    if not isinstance(base, NetworkGLMix) or network is None:
        raise ConfigError(
            f"{config.file}: version {whole.version} has no network to train; add [fixed.network] and make a version "
            "with: nearline fit"
        )
    past, start, training = _past(folder), whole.positions.get("examples", 0), config.deep()
    policies = {TRAINED: training.policy} | ({} if training.shadow is None else {SHADOW: training.shadow})
    committed = Committed.of(registry.folder)
    with History(registry.folder, base) as ledger:
        end = _training.cutoff_of(config, ledger, committed)
        _require(start, end, ledger, whole)
        offered = Offered(
            ledger, base, start, end, whole=whole.version.whole, holdout=config.running().gating.holdout,
            sketch=training.sketch, line=_line(registry, whole), slices=training.slices, leverage=training.leverage,
        )  # fmt: skip
        say("training the network on what was chosen", 0.0)
        runs = {
            role: train(_trainee(role, folder, base, policy, past.get(role)), offered, policy, training)
            for role, policy in policies.items()
        }
        say("learning the random effects on it", 0.0)
        model = NetworkGLMix.of(base.effects(), runs[TRAINED][0].network)
        found = refit(model, model.told(_training.trained_on(config, ledger.table(model, start, end))))
        unseen = ledger.table(model, end, committed.positions["examples"])
    about = {role: _about(*runs[role], policy, unseen, past.get(role)) for role, policy in policies.items()}
    version = Version(1 + max(record.version.whole for record in registry.versions()))
    metrics = {"events": float(found.events), "loss": found.loss, **_numbers(about[TRAINED])}
    also = {role: trainee.network for role, (trainee, _) in runs.items() if role == SHADOW}
    logs = {role == SHADOW: log for role, (_, log) in runs.items()}
    return Candidate(found.model, version, start, end, metrics, {"selection": about}, whole.version, also, logs)


def _line(registry: Registry, whole: Record) -> frozenset[int]:
    """Numbers of the global versions whose networks were trained one from the other, up to this one."""
    found = {whole.version.whole}
    while whole.parent is not None:
        whole = registry.record(whole.parent)
        found.add(whole.version.whole)
    return frozenset(found)


def _past(folder: Path) -> dict[str, Any]:
    """What earlier trainings of this line have left in the version's training.json."""
    path = folder / TRAINING
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


def _trainee(role: str, folder: Path, base: NetworkGLMix, policy: Policy, past: dict[str, Any] | None) -> Trainee:
    """A network as the last training left it, with what its selector remembers where the same one was at work.

    The network for comparison begins as the live one.
    """
    from nearline.deep import Network

    kept = folder / role
    network = Network.load(kept, device=base.network.device) if role == SHADOW and kept.exists() else base.folded()
    if not past:
        return Trainee(network, SelectorState())
    same = past["key"] == policy.key
    return Trainee(network, SelectorState.from_json(past["state"]) if same else SelectorState(), past["total_windows"])


def _about(
    trainee: Trainee, log: pa.Table, policy: Policy, unseen: pa.Table, past: dict[str, Any] | None
) -> dict[str, Any]:
    """What is kept of a training in the version's folder; how networks do on rows that were left adds up."""
    now, before = summary(log), past or {}
    totals = {f"total_{name}": before.get(f"total_{name}", 0.0) + now[name] for name in ("seen", "chosen")}
    found = before.get("quality")
    if unseen.num_rows:
        found = following(found, quality(trainee.network, unseen))
    return {
        **now, **totals, "total_windows": trainee.windows, "key": policy.key, "state": trainee.state.to_json(),
        "quality": found,
    }  # fmt: skip


def _numbers(trained: dict[str, Any]) -> dict[str, float]:
    return {
        name: trained[name] for name in ("seen", "chosen", "effective", "uniform_share", "kappa") if name in trained
    }
