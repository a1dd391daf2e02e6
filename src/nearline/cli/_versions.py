"""`nearline versions`, `publish`, `rollback`, `diff`: the registry of a state directory, beside or without a server."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from nearline import config as configs
from nearline._errors import ConfigError, StateError
from nearline.cli import _gate, _show
from nearline.loop import compare, forced
from nearline.store import Record, Registry, Version


def show(file: Path, at: str | None, as_object: bool) -> None:
    """List the versions, or name the one that was live at a time."""
    with _registry(file) as registry:
        if at is not None:
            _show_at(registry, at, as_object)
            return
        live, records = registry.live(), registry.versions()
        changes = registry.history(20)
    if as_object:
        found = {"live": live and str(live.version), "versions": [_plain(r) for r in records],
                 "history": [_plain(c) for c in changes]}  # fmt: skip
        print(msgspec.json.encode(found).decode())
        return
    console = _console()
    if not records:
        console.print(f"no versions yet; make one with: nearline fit {file}")
        return
    _show.console().print(_table(records, live))
    for change in changes:
        before = f" (was {change.previous})" if change.previous else ""
        console.print(f"{_when(change.time)}  {change.action:<8}  {change.version}{before}  {change.who}: {change.why}")


def publish(file: Path, version: str, why: str, force: bool, as_object: bool) -> None:
    """Make a registered version live if the gate lets it; a running service follows at once."""
    wanted = Version.parse(version)
    with _registry(file) as registry:
        reasons = _refused(file, registry, wanted, force, as_object)
        if reasons and not force:
            sys.exit(1)
        change = registry.publish(wanted, who=_who(), why=forced(why, reasons))
    _tell(f"version {change.version} is live", change, as_object)


def _refused(file: Path, registry: Registry, version: Version, force: bool, as_object: bool) -> tuple[str, ...]:
    """Why the gate refuses a version, printed where it does; empty where it does not, or was not asked."""
    config, live = configs.load(file), registry.live()
    if not config.running().gated or live is None or live.version == version:
        return ()
    verdict = _gate.judged(config, registry, version, as_object)
    if verdict is None or verdict.passed:
        return ()
    if as_object and not force:
        print(msgspec.json.encode({"published": False, "version": str(version), "verdict": verdict.summary()}).decode())
    elif not as_object:
        _gate.show(str(version), verdict)
    return verdict.reasons


def rollback(file: Path, to: str | None, why: str, as_object: bool) -> None:
    """Make the version live that was live before, or the one named."""
    with _registry(file) as registry:
        change = registry.rollback(None if to is None else Version.parse(to), who=_who(), why=why)
    _tell(f"rolled back from {change.previous} to {change.version}", change, as_object)


def diff(file: Path, one: str, other: str, top: int, as_object: bool) -> None:
    """What differs between two versions: what is recorded of them, sizes, and the coefficients that moved most."""
    with _registry(file) as registry:
        records = [registry.record(Version.parse(name)) for name in (one, other)]
        found = compare(*(registry.path(record.version) for record in records), top=top)
    if as_object:
        print(msgspec.json.encode({"versions": [_plain(r) for r in records], **found}).decode())
        return
    console = _console()
    for record in records:
        console.print(f"{record.version}  {_when(record.created)}  {record.who}: {record.why}  {_metrics(record)}")
    for effect in found["effects"]:
        console.print(
            f"\n{effect['name']}: {effect['entities'][0]:,} → {effect['entities'][1]:,} entities, "
            f"{effect['dims'][0]} → {effect['dims'][1]} coefficients each, {effect['changed']:,} entities changed"
        )
        for change in effect["largest"]:
            console.print(
                f"  {change['entity']!s:<20} {change['feature']:<28} {change['before']:+.4f} → {change['after']:+.4f}"
            )


@contextmanager
def _registry(file: Path) -> Iterator[Registry]:
    folder = configs.load(file).running().folder
    if not (folder / "registry.sqlite").exists():
        raise StateError(f"{folder} has no versions yet; make one with: nearline fit {file}")
    registry = Registry(folder, clock=time.time)
    try:
        yield registry
    finally:
        registry.close()


def _show_at(registry: Registry, at: str, as_object: bool) -> None:
    moment = _moment(at)
    record = registry.live_at(moment)
    if as_object:
        print(msgspec.json.encode({"time": moment, "live": record and str(record.version)}).decode())
    elif record is None:
        _console().print(f"nothing was live at {_when(moment)}")
    else:
        _console().print(f"version {record.version} was live at {_when(moment)}: {record.who}: {record.why}")


def _moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ConfigError(f"--at {text!r} is no time; write 2026-11-25T14:30 or seconds since the epoch") from None


def _table(records: list[Record], live: Record | None) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("", "version", "made", "why", "metrics"):
        table.add_column(name, no_wrap=name in ("", "version", "made"))
    for record in records:
        mark = "live" if live is not None and record.version == live.version else ""
        table.add_row(
            mark, str(record.version), _when(record.created), f"{record.who}: {record.why}", _metrics(record),
            style="bold" if mark else "",
        )  # fmt: skip
    return table


def _metrics(record: Record) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_brief(value)}" for name, value in record.metrics.items())


def _brief(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _when(time: float) -> str:
    return datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M:%S")


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def _tell(sentence: str, change: Any, as_object: bool) -> None:
    if as_object:
        print(msgspec.json.encode(_plain(change)).decode())
    else:
        _console().print(sentence)


def _plain(record: Any) -> dict[str, Any]:
    found = msgspec.structs.asdict(record) if isinstance(record, msgspec.Struct) else _fields(record)
    return {name: _simple(value) for name, value in found.items()}


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _simple(value: Any) -> Any:
    return str(value) if isinstance(value, Version | Path) else value


def _console() -> Console:
    return Console(markup=False, highlight=False, soft_wrap=True)
