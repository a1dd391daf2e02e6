"""Which versions there are, which one is live, and who changed that when and why.

Versions are immutable folders; the history only grows; what is live is its last publish or rollback. So the pointer
changes in one transaction, other processes see it with the next poll, and "what was live at time T" has an answer.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import EllipsisType
from typing import Any

from nearline._errors import Conflict, DataError, StateError
from nearline.store import _version_folders as folders
from nearline.store._sqlite import Database
from nearline.store._version import Action, Change, Record, Version

_POINTER = "SELECT * FROM history WHERE action IN ('publish', 'rollback')"


class Registry:
    """Versions and their history, in ``registry.sqlite`` and ``versions/`` of a folder.

    Parameters
    ----------
    folder
        Made if it is not there.
    clock
        Seconds since the epoch. The history's times never go back, whatever the clock does.
    patience
        Seconds to wait for another process's transaction.

    Raises
    ------
    StateError
        The folder cannot be used, or the database is damaged: it says what to do.

    Examples
    --------
    >>> import tempfile
    >>> from nearline import GLMix, Schema
    >>> folder = tempfile.TemporaryDirectory()
    >>> registry = Registry(folder.name, clock=lambda: 1000.0)
    >>> staged = GLMix(Schema(label="liked")).save(registry.stage())
    >>> registry.register(staged, Version(1), who="ann", why="first fit").folder.name
    '1.0.0'
    >>> registry.publish(Version(1), who="ann", why="nothing was live").action
    'publish'
    >>> str(registry.live().version)
    '1.0.0'
    >>> registry.close()
    >>> folder.cleanup()
    """

    def __init__(self, folder: str | os.PathLike[str], *, clock: Callable[[], float], patience: float = 5.0) -> None:
        self.folder, self._clock = Path(folder), clock
        self.versions_folder = self.folder / "versions"
        try:
            self.versions_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(
                f"{self.versions_folder} cannot be made: {error.strerror}; give the process a folder that it may write"
            ) from None
        self._database = Database(self.folder / "registry.sqlite", patience)

    def close(self) -> None:
        """Release the database."""
        self._database.close()

    # -- versions ----------------------------------------------------------------------------------------------------

    def stage(self) -> Path:
        """A new folder to save a model into, on the same disk as the versions."""
        return folders.aside(self.versions_folder)

    def register(
        self,
        staged: Path,
        version: Version,
        *,
        who: str,
        why: str,
        parent: Version | None = None,
        metrics: Mapping[str, float] | None = None,
        positions: Mapping[str, int] | None = None,
        config: str = "",
    ) -> Record:
        """Take a saved model in as a version: its folder is moved to ``versions/`` whole, and never changes again.

        Raises
        ------
        StateError
            The version exists, its parent does not, or `staged` holds no saved model; `staged` is then where it was.
        """
        _check_reason(who, why)
        checksum, target = folders.checksum(staged), self._path(version)
        values = (
            str(version), None, who, why, parent and str(parent), json.dumps(dict(metrics or {})),
            json.dumps(dict(positions or {})), config, checksum,
        )  # fmt: skip
        with self._database.transaction() as connection:
            if self._find(version):
                raise StateError(f"version {version} exists already; versions are immutable, register another number")
            if parent is not None and not self._find(parent):
                raise StateError(
                    f"version {version} names the parent {parent}, which is not registered; register it first"
                )
            self._append(connection, "register", version, None, who, why, values)
            folders.move(staged, target)
        return self.record(version)

    def record(self, version: Version) -> Record:
        """What is known of a version.

        Raises
        ------
        StateError
            When it is not registered.
        """
        found = self._find(version)
        if not found:
            known = [str(record.version) for record in self.versions()[:5]]
            raise StateError(f"version {version} is not registered; the newest are {known}")
        return self._record(found[0])

    def versions(self) -> list[Record]:
        """All versions, the newest first; those whose folder was pruned, too."""
        rows = self._database.rows("SELECT * FROM versions ORDER BY rowid DESC")
        return [self._record(row) for row in rows]

    def path(self, version: Version) -> Path:
        """The folder of a version, after its manifest was checked against the registry.

        Raises
        ------
        StateError
            When it is not registered, was pruned, or its manifest is missing or altered.
        """
        record = self.record(version)
        if self._database.rows("SELECT 1 FROM history WHERE action = 'prune' AND version = ?", str(version)):
            raise StateError(f"version {version} was pruned; choose one of {[str(v) for v in self._kept()]}")
        if not (record.folder / folders.MANIFEST).exists() or folders.checksum(record.folder) != record.checksum:
            raise StateError(
                f"{record.folder} is missing or not as it was registered; restore it from a copy, or choose another "
                "version"
            )
        return record.folder

    def _kept(self) -> list[Version]:
        gone = {row[0] for row in self._database.rows("SELECT version FROM history WHERE action = 'prune'")}
        return [record.version for record in self.versions() if str(record.version) not in gone]

    def _path(self, version: Version) -> Path:
        return self.versions_folder / str(version)

    def _find(self, version: Version) -> list[Any]:
        return self._database.rows("SELECT * FROM versions WHERE version = ?", str(version))

    def _record(self, row: Any) -> Record:
        name, created, who, why, parent, metrics, positions, config, checksum = row
        version = Version.parse(name)
        return Record(
            version, created, who, why, parent and Version.parse(parent), json.loads(metrics), json.loads(positions),
            config, self._path(version), checksum,
        )  # fmt: skip

    # -- what is live ------------------------------------------------------------------------------------------------

    def publish(self, version: Version, *, who: str, why: str, expected: Version | EllipsisType | None = ...) -> Change:
        """Make a version live.

        Parameters
        ----------
        expected
            Publish only if this version is live now (None: nothing is); whatever is live by default.

        Raises
        ------
        Conflict
            Another version is live than `expected`: somebody published meanwhile.
        StateError
            The version's folder is missing or altered, or it was pruned.
        """
        _check_reason(who, why)
        self.path(version)
        with self._database.transaction() as connection:
            live = self._expect(expected)
            if live is not None and live.version == version:
                return live
            return self._append(connection, "publish", version, None if live is None else live.version, who, why)

    def rollback(
        self, to: Version | None = None, *, who: str, why: str, expected: Version | EllipsisType | None = ...
    ) -> Change:
        """Make live what was live before, or a version that is named; the history says so.

        Repeated, it goes further back: a version that was rolled back from is not come back to.

        Raises
        ------
        Conflict
            See `publish`.
        StateError
            Nothing was live before, or the version cannot be used.
        """
        _check_reason(who, why)
        with self._database.transaction() as connection:
            live = self._expect(expected)
            if live is None:
                raise StateError("nothing is live, so there is nothing to roll back; publish a version")
            target = self._before() if to is None else to
            self.path(target)
            if target == live.version:
                return live
            return self._append(connection, "rollback", target, live.version, who, why)

    def _expect(self, expected: Version | EllipsisType | None) -> Change | None:
        live = self.pointer()
        found = None if live is None else live.version
        if not isinstance(expected, EllipsisType) and found != expected:
            raise Conflict(
                f"version {found} is live, not {expected}: somebody published meanwhile; look at the history and "
                "decide anew"
            )
        return live

    def _before(self) -> Version:
        """The version to roll back to: publishing puts one on a pile, rolling back takes off what is above its own."""
        kept = set(self._kept())
        pile: list[Version] = []
        for change in (_change(row) for row in self._database.rows(_POINTER + " ORDER BY number")):
            if change.action == "rollback" and change.version in pile:
                while pile[-1] != change.version:
                    pile.pop()
            else:
                pile.append(change.version)
        live = pile.pop()
        while pile and (pile[-1] == live or pile[-1] not in kept):
            pile.pop()
        if not pile:
            raise StateError(
                f"nothing was live before version {live} that is still kept; name a version to roll back to"
            )
        return pile[-1]

    def pointer(self) -> Change | None:
        """The publish or rollback that made live what is live; one small query, to be polled."""
        rows = self._database.rows(_POINTER + " ORDER BY number DESC LIMIT 1")
        return _change(rows[0]) if rows else None

    def live(self) -> Record | None:
        """The live version; None before the first publish."""
        pointer = self.pointer()
        return None if pointer is None else self.record(pointer.version)

    def live_at(self, time: float) -> Record | None:
        """The version that was live at a time (seconds since the epoch); None before the first publish."""
        rows = self._database.rows(_POINTER + " AND time <= ? ORDER BY number DESC LIMIT 1", time)
        return self.record(_change(rows[0]).version) if rows else None

    def history(self, limit: int | None = None) -> list[Change]:
        """What was done, the newest first."""
        rows = self._database.rows("SELECT * FROM history ORDER BY number DESC LIMIT ?", -1 if limit is None else limit)
        return [_change(row) for row in rows]

    def follow(self) -> Follower:
        """See publishes and rollbacks of any process, from what is live now on."""
        return Follower(self)

    # -- upkeep ------------------------------------------------------------------------------------------------------

    def retain(self, keep: int, *, who: str, why: str, also: Collection[Version] = ()) -> list[Version]:
        """Delete the folders of old versions; their records and history stay.

        Kept are the `keep` newest, the live one with its parent and base, what a rollback would go to, and `also`.
        """
        _check_reason(who, why)
        if keep < 1:
            raise DataError(f"retain(keep={keep}) must be at least 1")
        with self._database.transaction() as connection:
            kept = self._kept()
            old = [version for version in kept[keep:] if version not in {*also, *self._needed()}]
            for version in old:
                self._append(connection, "prune", version, None, who, why)
        # The history says it first: a folder without a record would be worse than one that outlives it.
        for row in self._database.rows("SELECT DISTINCT version FROM history WHERE action = 'prune'"):
            folders.remove(self._path(Version.parse(row[0])))
        for path in folders.leftovers(self.versions_folder):
            shutil.rmtree(path, ignore_errors=True)
        return old

    def _needed(self) -> set[Version]:
        live = self.live()
        if live is None:
            return set()
        needed = {live.version, live.version.base, live.parent or live.version}
        try:
            return needed | {self._before()}
        except StateError:
            return needed

    def _append(
        self, connection: sqlite3.Connection, action: Action, version: Version, previous: Version | None, who: str,
        why: str, record: tuple[Any, ...] | None = None,
    ) -> Change:  # fmt: skip
        number, last = connection.execute("SELECT coalesce(max(number), 0) + 1, max(time) FROM history").fetchone()
        time = self._clock() if last is None else max(self._clock(), last)
        if record is not None:
            marks = ", ".join("?" * len(record))
            connection.execute(f"INSERT INTO versions VALUES ({marks})", (record[0], time, *record[2:]))
        row = (number, time, action, str(version), previous and str(previous), who, why)
        connection.execute("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return _change(row)


class Follower:
    """What is live, as one server has seen it.

    Examples
    --------
    A server calls `poll` ten times a second, and loads what it returns:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     registry = Registry(folder, clock=lambda: 0.0)
    ...     print(registry.follow().poll())
    ...     registry.close()
    None
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        pointer = registry.pointer()
        self._number = 0 if pointer is None else pointer.number

    def poll(self) -> Change | None:
        """The last publish or rollback if there was one since the last poll, else None."""
        pointer = self._registry.pointer()
        if pointer is None or pointer.number == self._number:
            return None
        self._number = pointer.number
        return pointer


def _change(row: Any) -> Change:
    number, time, action, version, previous, who, why = row
    return Change(number, time, action, Version.parse(version), previous and Version.parse(previous), who, why)


def _check_reason(who: str, why: str) -> None:
    for name, value in (("who", who), ("why", why)):
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{name}={value!r} is empty", fix=f"say {name}; it stays in the history")
