"""What was chosen, as tables of `nearline.toml`: to paste, or to put into the file and leave the rest of it alone."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, MutableMapping
from typing import Any

from nearline._errors import ConfigError
from nearline.tune._tuned import Tuned

UNITS = {"d": 86_400.0, "h": 3_600.0, "min": 60.0}
PLACES = (("fit", "priors"), ("backtest", "priors"))
"""Where priors are learned: both get the chosen settings."""


def tables(found: Tuned) -> dict[str, Any]:
    """The recommended settings as nested tables; a chosen update interval in time becomes the tick of the live loop."""
    settings = found.recommended
    adjust = {name: _adjustment(change) for name, change in found.changes.items()}
    learned = {name: value for name, value in found.how.items() if value is not None}
    structure = str(settings.get("structure", next(iter(found.learned))))
    made: dict[str, Any] = {}
    for outer, inner in PLACES:
        made[outer] = {inner: {**learned, "structure": structure, "adjust": adjust}}
    if isinstance(settings.get("every"), str):
        made["live"] = {"tick": settings["every"]}
    return made


def fragment(found: Tuned) -> str:
    """Lines for `nearline.toml`.

    Raises
    ------
    ConfigError
        tomlkit is not installed; names the extra.
    """
    return str(_tomlkit().dumps(tables(found)))


def written(text: str, found: Tuned) -> str:
    """The text of a `nearline.toml` with the recommended settings in it; comments and all else stay as they are."""
    document = _tomlkit().parse(text)
    _merge(document, tables(found))
    return str(_tomlkit().dumps(document))


def _merge(into: MutableMapping[str, Any], new: Mapping[str, Any]) -> None:
    for name, value in new.items():
        if isinstance(value, Mapping) and name != "adjust" and isinstance(into.get(name), MutableMapping):
            _merge(into[name], value)
        else:
            into[name] = value


def _adjustment(change: Any) -> dict[str, Any]:
    fields = {name: getattr(change, name) for name in ("variance", "half_life", "walk_per_event", "walk_per_day")}
    told = {name: value for name, value in fields.items() if value is not None and (name, value) != ("variance", 1.0)}
    if "half_life" in told:
        told["half_life"] = _duration(told["half_life"])
    return told


def _duration(seconds: float) -> float | str:
    """A duration as a person would write it, where it is one.

    Examples
    --------
    >>> _duration(2_592_000.0), _duration(5_400.0), _duration(12.34)
    ('30d', '90min', 12.34)
    """
    for unit, length in UNITS.items():
        if (seconds / length).is_integer():
            return f"{int(seconds / length)}{unit}"
    return seconds


def _tomlkit() -> Any:
    try:
        return importlib.import_module("tomlkit")
    except ImportError:
        raise ConfigError("nearline tune needs tomlkit; install it with: pip install 'nearline[tune]'") from None
