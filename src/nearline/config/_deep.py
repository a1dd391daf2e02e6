"""The tables of a network, turned into what trains it; nothing here imports torch before a network is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nearline._errors import ConfigError
from nearline.config import _select
from nearline.config._deep_tables import DeepTable
from nearline.config._tables import NetworkTable
from nearline.deep import DCN, DLRM, MLP, NetworkGLMix, Optimiser
from nearline.deep._torch import require
from nearline.glmix import GLMix
from nearline.glmix._replay import seconds
from nearline.schema import ColumnKind, Schema
from nearline.select import Policy

if TYPE_CHECKING:
    from nearline.deep._architecture import Architecture
    from nearline.loop import Training

_SIZES = {"mlp": ("hidden",), "dcn": ("hidden", "cross_layers", "rank"), "dlrm": ("bottom", "top")}
_KINDS: dict[str, Any] = {"mlp": MLP, "dcn": DCN, "dlrm": DLRM}
_OPTIMISER = ("rule", "learning_rate", "embedding_rate", "weight_decay", "batch_size")


def architecture(table: NetworkTable) -> Architecture:
    """The kind of network, with its sizes.

    Raises
    ------
    ConfigError
        A size that this kind does not have, or that is out of range.
    """
    given = {
        name: getattr(table, name)
        for name in ("hidden", "cross_layers", "rank", "bottom", "top")
        if getattr(table, name) is not None
    }
    for name in given:
        if name not in _SIZES[table.kind]:
            has = ", ".join(_SIZES[table.kind])
            raise ConfigError(
                f"[fixed.network] {name}: kind = {table.kind!r} has no such size; it has {has}, embedding"
            )
    with _place("[fixed.network]"):
        made: Architecture = _KINDS[table.kind](embedding=table.embedding, **given)
    return made


def optimiser(table: NetworkTable) -> Optimiser:
    """Rule and step sizes."""
    if table.epochs < 1:
        raise ConfigError(f"[fixed.network] epochs = {table.epochs} must be at least 1")
    with _place("[fixed.network]"):
        return Optimiser(**{name: getattr(table, name) for name in _OPTIMISER})


def check(table: NetworkTable, schema: Schema, on: tuple[str, ...]) -> None:
    """Refuse what cannot be trained, before torch is imported.

    Raises
    ------
    ConfigError
        torch is not installed, no column is read, or a setting does not fit.
    """
    with _place("[fixed.network]"):
        require()
    if not on:
        raise ConfigError("[fixed.network] needs columns to read: name them in [fixed] on")
    if schema.offset is not None:
        raise ConfigError("[schema] offset: the offset is the network's ([fixed.network]); leave one of them out")
    architecture(table)
    optimiser(table)


def on_network(table: NetworkTable, effects: GLMix, on: tuple[str, ...]) -> NetworkGLMix:
    """The effects on a network that has learned nothing."""
    from nearline.deep import Network

    with _place("[fixed.network]"):
        network = Network(
            effects.schema, on, architecture=architecture(table), link=effects.link, optimiser=optimiser(table),
            seed=table.seed, device=table.device,
        )  # fmt: skip
        return NetworkGLMix.of(effects, network)


def training(
    table: DeepTable, link: str, recorded: Sequence[str], columns: Sequence[str],
    kinds: Mapping[str, ColumnKind | None],
) -> Training:  # fmt: skip
    """What `[deep]` says.

    Parameters
    ----------
    recorded, columns
        What the ledger keeps of every prediction, and what the network reads of it.
    kinds
        Kinds of columns, of those of which they are known.

    Raises
    ------
    ConfigError
        Names the field and what it may be.
    """
    from nearline.loop import Training

    if isinstance(table.budget, float) and not 0 < table.budget <= 1:
        raise ConfigError(
            f"[deep] budget = {table.budget}: a share is above 0 and at most 1; a whole number counts rows"
        )
    if isinstance(table.budget, int) and table.budget < 1:
        raise ConfigError(f"[deep] budget = {table.budget} must be at least 1 row per window")
    if table.window < 1:
        raise ConfigError(f"[deep] window = {table.window} must be at least 1 example")
    policy = _policy(table, link)
    shadow = None if table.shadow is None else replace(policy, rule=_select.rule("shadow", table.shadow))
    return Training(
        policy, table.budget, table.window, table.seed, shadow, _select.sketch(table),
        _select.slices(table, recorded), _select.leverage(table, columns, kinds),
    )  # fmt: skip


def _policy(table: DeepTable, link: str) -> Policy:
    task: Any = {"logit": "binary"}.get(link, "regression")
    if table.max_version_lag is not None and not table.max_version_lag >= 0:
        raise ConfigError(f"[deep] max_version_lag = {table.max_version_lag} must be at least 0 versions")
    with _place("[deep]"):
        return Policy(
            _select.rule("select", table.select), task=task, trim=table.trim, clip=table.clip,
            max_age=_duration("max_age", table.max_age), max_version_lag=table.max_version_lag,
        )  # fmt: skip


def every(table: DeepTable) -> float | None:
    """Seconds between two trainings that `nearline run` starts by itself; None where time starts none."""
    if table.examples is not None and table.examples < 1:
        raise ConfigError(f"[deep] examples = {table.examples} must be at least 1")
    return _duration("every", table.every)


def _duration(field: str, value: float | str | None) -> float | None:
    with _place(f"[deep] {field}"):
        found = seconds(value) if isinstance(value, str) else value
        if found is not None and not found > 0:
            raise ConfigError(f"{found} must be above 0 seconds")
    return found


@contextmanager
def _place(name: str) -> Iterator[None]:
    """Puts the table in front of an error."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(str(error) if str(error).startswith("[") else f"{name}: {error}") from error
