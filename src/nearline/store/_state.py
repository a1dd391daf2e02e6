"""State that survives a crash: tables of bytes, settings and positions, changed by whole transactions.

One rule: what was learned and the position up to which it was learned are committed together. After a crash a store is
as its last commit left it, so a learner that reads on from the positions never loses or repeats an event.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import msgspec

from nearline._errors import Conflict, DataError

Value: TypeAlias = bytes | bytearray | memoryview
Table: TypeAlias = Mapping[bytes, bytes]
"""Values by key, in the order of the keys."""

LONGEST_KEY = 511


@dataclass(frozen=True, slots=True)
class Changes:
    """What one transaction changes.

    Attributes
    ----------
    tables
        By name of the table, new values by key; None deletes a key. A table appears with its first value.
    meta
        Settings by name, of the kinds that JSON has, and bytes; None deletes one.
    clear
        Tables that are emptied first.
    expected
        Compare and set: settings that must be as said, None for absent; else the commit is refused with `Conflict`, as
        what it changes was computed on another state.

    Examples
    --------
    >>> Changes({"rows": {b"ann": b"1", b"bob": None}}, meta={"line": "1.4.900"}, clear=("rows",)).meta["line"]
    '1.4.900'
    """

    tables: Mapping[str, Mapping[bytes, Value | None]] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    clear: tuple[str, ...] = ()
    expected: Mapping[str, Any] = field(default_factory=dict)

    def __or__(self, other: Changes) -> Changes:
        """Both in one transaction; the other's value wins where both have one. All clearing comes first."""
        tables = {name: {**self.tables.get(name, {}), **other.tables.get(name, {})} for name in self._names(other)}
        clear, expected = tuple(dict.fromkeys(self.clear + other.clear)), {**self.expected, **other.expected}
        return Changes(tables, {**self.meta, **other.meta}, clear, expected)

    def _names(self, other: Changes) -> list[str]:
        return list(dict.fromkeys([*self.tables, *other.tables]))


class Snapshot(Protocol):
    """A store as one commit left it, whatever is committed meanwhile."""

    @property
    def positions(self) -> Mapping[str, int]:
        """Positions by name."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """Settings by name."""

    def table(self, name: str) -> Table:
        """All values of a table by key, in the order of the keys; empty for a table that is not there."""

    def get(self, name: str, key: bytes) -> bytes | None:
        """One value, or None."""


class StateStore(Protocol):
    """Tables, settings and positions that change by whole transactions: one writer, any number of readers."""

    def commit(self, changes: Changes, positions: Mapping[str, int]) -> None:
        """Make changes and positions durable together, or neither; positions that are not named stay.

        Raises
        ------
        Conflict
            Settings are not as `Changes.expected` says; nothing was written.
        """

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A consistent view for as long as the block runs; keep it short, as it holds back space from reuse."""

    def close(self) -> None:
        """Release what is held; commits are durable already."""


def check(changes: Changes, positions: Mapping[str, int]) -> None:
    """Refuse what no store can keep.

    Raises
    ------
    DataError
        A table without a name, a key that is not 1 to 511 bytes, a position that is no int64, or a setting that has no
        form as bytes.
    """
    for name in (*changes.tables, *changes.clear):
        if not isinstance(name, str) or not name or name.startswith("("):
            raise DataError(f"{name!r} is no name of a table", fix="use a name that does not begin with '('")
    for name, table in changes.tables.items():
        bad = next((key for key in table if not isinstance(key, bytes) or not 0 < len(key) <= LONGEST_KEY), None)
        if bad is not None:
            raise DataError(f"table {name!r}: {bad!r} is no key", fix=f"give keys of 1 to {LONGEST_KEY} bytes")
    for name, position in positions.items():
        if not name or not hasattr(position, "__index__") or not -(2**63) <= position < 2**63:
            raise DataError(f"position {name!r} is {position!r}", fix="a position is named and a 64-bit integer")
    for name, value in changes.meta.items():
        try:
            msgspec.msgpack.encode(value)
        except (TypeError, OverflowError) as error:
            raise DataError(f"setting {name!r}: {error}", fix="use numbers, strings, lists and dicts") from None


def require(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise `Conflict` unless the settings that were found are as expected, None for absent.

    >>> require({"line": "1.0"}, {"line": "1.0", "used": 3})
    """
    for name, value in expected.items():
        if found.get(name) != _plain(value):
            raise Conflict(
                f"setting {name!r} of the state is {found.get(name)!r}, not {_plain(value)!r}: what was to be "
                "committed was computed on another state; read it anew and compute again"
            )


@dataclass(frozen=True, slots=True)
class _View:
    """All of a memory store at one commit; its dicts are replaced, never changed."""

    positions: Mapping[str, int] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)

    def table(self, name: str) -> Table:
        return self.tables.get(name, {})

    def get(self, name: str, key: bytes) -> bytes | None:
        return self.table(name).get(key)


class MemoryStateStore:
    """A `StateStore` in memory: for tests, and for what need not outlive the process.

    Examples
    --------
    >>> store = MemoryStateStore()
    >>> store.commit(Changes({"rows": {b"ann": b"1"}}), {"examples": 7})
    >>> with store.snapshot() as then:
    ...     store.commit(Changes({"rows": {b"ann": None}}), {"examples": 8})
    ...     then.positions["examples"], then.table("rows")
    (7, {b'ann': b'1'})
    """

    def __init__(self) -> None:
        self._view, self._turn = _View(), threading.Lock()

    def commit(self, changes: Changes, positions: Mapping[str, int]) -> None:
        """Make changes and positions visible together."""
        check(changes, positions)
        with self._turn:
            old = self._view
            require(changes.expected, old.meta)
            tables = {name: table for name, table in old.tables.items() if name not in changes.clear}
            for name, new in changes.tables.items():
                tables[name] = _merged(tables.get(name, {}), new)
            meta = {name: _plain(value) for name, value in {**old.meta, **changes.meta}.items() if value is not None}
            new_positions = {name: int(position) for name, position in positions.items()}
            self._view = _View({**old.positions, **new_positions}, meta, tables)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The store as it is now."""
        yield self._view

    def close(self) -> None:
        """Nothing is held."""


def _merged(old: Table, new: Mapping[bytes, Value | None]) -> Table:
    merged = {**old, **{key: None if value is None else bytes(value) for key, value in new.items()}}
    return {key: value for key, value in sorted(merged.items()) if value is not None}


def _plain(value: Any) -> Any:
    """A setting as it comes back from bytes."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))
