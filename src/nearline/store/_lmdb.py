"""State on disk: one LMDB environment, one synchronous transaction per commit, snapshots for reader processes.

LMDB copies what it changes and then swings one page, so a crash at any moment leaves the old state or the new one. It
does not notice bits that rot: every value here carries a checksum of itself and its key, and a file that is shorter
than its pages is refused before it is read.
"""

from __future__ import annotations

import errno
import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import lmdb
import msgspec

from nearline._errors import StateError
from nearline.store._state import Changes, Snapshot, Table, Value, check, require

T = TypeVar("T")

DATA, LOCK = "data.mdb", "lock.mdb"
_POSITIONS, _META = "(positions)", "(meta)"
_MOST_TABLES, _SUM, _PATIENCE = 64, 4, 30.0
# LMDB calls a write that was cut short, which a full disk does first, an I/O error.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_DAMAGED = (
    lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.VersionMismatchError, lmdb.IncompatibleError,
)  # fmt: skip


class LmdbStateStore:
    """A `StateStore` in a folder: durable once `commit` returns, readable from other processes meanwhile.

    Parameters
    ----------
    folder
        Made if it is not there.
    read_only
        For a process that only takes snapshots, of the commits of another.
    map_size
        Bytes of address space to begin with; it doubles by itself when the state outgrows it.

    Raises
    ------
    StateError
        The folder cannot be used, or what is in it is damaged: it says what to do.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = LmdbStateStore(folder)
    ...     store.commit(Changes({"rows": {b"ann": b"1"}}, meta={"line": "1.0.0"}), {"examples": 7})
    ...     store.close()
    ...     store = LmdbStateStore(folder)
    ...     with store.snapshot() as state:
    ...         print(state.positions, state.meta, state.table("rows"))
    ...     store.close()
    {'examples': 7} {'line': '1.0.0'} {b'ann': b'1'}
    """

    def __init__(self, folder: str | os.PathLike[str], *, read_only: bool = False, map_size: int = 1 << 30) -> None:
        self.folder, self.read_only = Path(folder), read_only
        self._readers, self._idle, self._turn = 0, threading.Condition(), threading.Lock()
        self._tables: dict[str, Any] = {}
        with _explained(self.folder):
            self._environment = _open(self.folder, read_only, map_size)
            try:
                _check_length(self._environment, self.folder / DATA)
                self._find_tables()
            except BaseException:
                self._environment.close()
                raise

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return (self.folder / DATA).stat().st_size

    def commit(self, changes: Changes, positions: Mapping[str, int]) -> None:
        """Make changes and positions durable together, or neither.

        Raises
        ------
        DataError
            See `nearline.store._state.check`.
        Conflict
            Settings are not as `Changes.expected` says.
        StateError
            The disk is full or cannot be written: nothing of the commit is there, and it may be tried again.
        """
        if self.read_only:
            raise StateError(f"{self.folder} was opened read_only=True; commit from the process that writes it")
        check(changes, positions)
        tables = {name: _sealed(table) for name, table in _all_tables(changes, positions).items()}
        with self._turn, _explained(self.folder):
            self._growing(lambda: self._write(tables, changes))

    def _write(self, tables: Mapping[str, list[tuple[bytes, bytes | None]]], changes: Changes) -> None:
        for name in tables:
            if name not in self._tables:
                self._tables[name] = self._environment.open_db(name.encode())
        with self._environment.begin(write=True) as transaction:
            if changes.expected:
                require(changes.expected, self._settings(transaction, changes.expected))
            for name in changes.clear:
                if name in self._tables:
                    transaction.drop(self._tables[name], delete=False)
            for name, entries in tables.items():
                _put(transaction, self._tables[name], entries)

    def _settings(self, transaction: Any, names: Iterable[str]) -> dict[str, Any]:
        """Settings as a write transaction finds them, those that are there."""
        raw = {name: transaction.get(name.encode(), db=self._tables[_META]) for name in names if _META in self._tables}
        return {name: msgspec.msgpack.decode(value[:-_SUM]) for name, value in raw.items() if value is not None}

    def _growing(self, action: Callable[[], T]) -> T:
        """Do something, with twice the address space as long as it does not fit; what did not fit was undone."""
        while True:
            try:
                return action()
            except lmdb.MapFullError:
                self._resize(2 * self._environment.info()["map_size"])

    def _resize(self, size: int) -> None:
        """Take another size of map, 0 for the file's own; the map moves, so no snapshot here may be looking at it."""
        with self._idle:
            if not self._idle.wait_for(lambda: not self._readers, timeout=_PATIENCE):
                raise StateError(
                    f"{self.folder / DATA} has to grow and a snapshot in this process has been open for "
                    f"{_PATIENCE:g} s; close it, copy what you need from it first"
                )
            self._environment.set_mapsize(size)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """A consistent view for as long as the block runs; a commit that has to grow the file waits for its end."""
        with _explained(self.folder):
            transaction, tables = self._begin()
        try:
            yield _View(self.folder, transaction, tables)
        finally:
            transaction.abort()
            with self._idle:
                self._readers -= 1
                self._idle.notify_all()

    def _begin(self) -> tuple[Any, dict[str, Any]]:
        while True:
            try:
                with self._idle:
                    if self.read_only:
                        self._find_tables()
                    # A transaction knows the tables that were there before it.
                    tables = dict(self._tables)
                    transaction = self._environment.begin(buffers=True)
                    self._readers += 1
                    return transaction, tables
            except lmdb.MapResizedError:
                self._resize(0)

    def _find_tables(self) -> None:
        for name in self._environment.dbs():
            if name.decode() not in self._tables:
                self._tables[name.decode()] = self._environment.open_db(name, create=False)

    def close(self) -> None:
        """Release the files; a snapshot that is still open ends."""
        self._environment.close()


class _View:
    """A read transaction; the memory behind what it hands out is copied."""

    def __init__(self, folder: Path, transaction: Any, tables: Mapping[str, Any]) -> None:
        self._folder, self._transaction, self._tables = folder, transaction, tables
        positions = self.table(_POSITIONS).items()
        self.positions = {name.decode(): int.from_bytes(value, "little", signed=True) for name, value in positions}
        self.meta = {name.decode(): msgspec.msgpack.decode(value) for name, value in self.table(_META).items()}

    def table(self, name: str) -> Table:
        """All values of a table by key, in the order of the keys."""
        if name not in self._tables:
            return {}
        with _explained(self._folder):
            entries = self._transaction.cursor(self._tables[name]).iternext()
            return {bytes(key): self._opened(name, key, value) for key, value in entries}

    def get(self, name: str, key: bytes) -> bytes | None:
        """One value, or None."""
        if name not in self._tables:
            return None
        with _explained(self._folder):
            value = self._transaction.get(key, db=self._tables[name])
        return None if value is None else self._opened(name, key, value)

    def _opened(self, name: str, key: Value, value: memoryview) -> bytes:
        plain = bytes(value[:-_SUM])
        if crc32(plain, crc32(key)) != int.from_bytes(value[-_SUM:], "little"):
            raise StateError(
                f"{self._folder / DATA}: the value of {bytes(key)!r} in table {name!r} was altered, its checksum does "
                f"not match; {_RESTORE}"
            )
        return plain


def _all_tables(changes: Changes, positions: Mapping[str, int]) -> dict[str, Mapping[bytes, Value | None]]:
    """Tables to write, with the positions and settings as two more."""
    out = {name: table for name, table in changes.tables.items() if table}
    if positions:
        numbers = {name.encode(): int(position) for name, position in positions.items()}
        out[_POSITIONS] = {name: number.to_bytes(8, "little", signed=True) for name, number in numbers.items()}
    if changes.meta:
        encode = msgspec.msgpack.encode
        out[_META] = {name.encode(): None if value is None else encode(value) for name, value in changes.meta.items()}
    return out


def _sealed(table: Mapping[bytes, Value | None]) -> list[tuple[bytes, bytes | None]]:
    """Entries in the order of their keys, each value with its checksum behind it."""
    return [
        (key, None if value is None else b"".join((value, crc32(value, crc32(key)).to_bytes(_SUM, "little"))))
        for key, value in sorted(table.items())
    ]


def _put(transaction: Any, table: Any, entries: list[tuple[bytes, bytes | None]]) -> None:
    """Write entries, which ascend; those behind the last key of the table fill their pages, others leave them half."""
    values = [entry for entry in entries if entry[1] is not None]
    cursor = transaction.cursor(table)
    first = bisect_right(values, cursor.key(), key=itemgetter(0)) if cursor.last() else 0
    cursor.putmulti(values[:first])
    cursor.putmulti(values[first:], append=True)
    for key, value in entries:
        if value is None:
            transaction.delete(key, db=table)


def _open(folder: Path, read_only: bool, map_size: int) -> Any:
    if read_only and not (folder / DATA).exists():
        raise StateError(f"{folder} holds no state yet; start the process that writes it first")
    try:
        if not read_only:
            folder.mkdir(parents=True, exist_ok=True)
        # Pages are read in the order of keys once and at random after that: reading ahead would fill memory in vain.
        return lmdb.open(
            str(folder), map_size=max(map_size, 1 << 16), max_dbs=_MOST_TABLES, readonly=read_only,
            create=not read_only, readahead=False, max_spare_txns=1,
        )  # fmt: skip
    except OSError as error:
        raise StateError(f"{folder} cannot be used for state: {error.strerror}; {_WRITABLE}") from None


def _check_length(environment: Any, path: Path) -> None:
    """Refuse a file that ends before its pages do: reading past the end of a mapped file kills the process."""
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = path.stat().st_size
    if size >= needed:
        return
    from lmdb.verify import VerifyError, verify

    try:
        # Pages that a transaction took and gave back before its end are counted and never written.
        problems: list[str] = verify(str(path), subdir=False)  # type: ignore[no-untyped-call]
    except VerifyError as error:
        problems = [str(error)]
    if problems:
        raise StateError(f"{path} was truncated: it has {size} bytes of {needed} ({problems[0]}); {_RESTORE}")


_RESTORE = (
    "restore the folder from a copy, or move it away: the learner then starts from the live version and learns the "
    "ledger's outcomes again"
)
_WRITABLE = "give the process a folder that it may write, or open it with read_only=True"


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """What LMDB raises as a StateError that says what to do."""
    try:
        yield
    except lmdb.Error as error:
        code = getattr(error, "code", 0)
        raise StateError(f"{folder / DATA}: {error}; {_advice(error, code)}") from None


def _advice(error: lmdb.Error, code: int) -> str:
    if isinstance(error, _DAMAGED):
        return f"the file is damaged: {_RESTORE}"
    if isinstance(error, lmdb.DiskError) or code in _FULL:
        return (
            "the disk is full or failing: nothing of this commit is there; free space or see to the disk, and try again"
        )
    if isinstance(error, lmdb.ReadonlyError) or code in _CLOSED:
        return _WRITABLE
    if "already open in this process" in str(error):
        return "it is open in this process already; share the one store, whose snapshots work from any thread"
    if isinstance(error, lmdb.ReadersFullError):
        return "too many readers: close some, or restart readers that were killed"
    return "close the store and open it again; if that does not help, " + _RESTORE
