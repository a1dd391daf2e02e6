"""The registry's database: tables that only grow, transactions, and errors that say what to do."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nearline._errors import StateError

FORMAT = 1
_APPLICATION = 0x6E656172
_ONLY_GROWS = (
    "CREATE TRIGGER {table}_{verb} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, '{table} only grows'); END"
)
_SCHEMA = (
    """CREATE TABLE versions (
        version TEXT PRIMARY KEY, created REAL NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL,
        parent TEXT REFERENCES versions(version), metrics TEXT NOT NULL, positions TEXT NOT NULL, config TEXT NOT NULL,
        checksum TEXT NOT NULL)""",
    """CREATE TABLE history (
        number INTEGER PRIMARY KEY, time REAL NOT NULL,
        action TEXT NOT NULL CHECK (action IN ('register', 'publish', 'rollback', 'prune')),
        version TEXT NOT NULL REFERENCES versions(version), previous TEXT, who TEXT NOT NULL, why TEXT NOT NULL)""",
    *(_ONLY_GROWS.format(table=table, verb=verb) for table in ("versions", "history") for verb in ("UPDATE", "DELETE")),
    # Who may change what is live changes it through the history.
    "CREATE INDEX pointer ON history(number) WHERE action IN ('publish', 'rollback')",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {FORMAT}",
)


class Database:
    """One connection, shared by the threads of a process in turn.

    Parameters
    ----------
    patience
        Seconds to wait for another process to finish its transaction.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self.path, self._patience, self._turn = path, patience, threading.RLock()
        with self._explained():
            self._connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        execute = self._connection.execute
        if execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("database disk image is malformed")
        self._insist("PRAGMA journal_mode = WAL")
        # A version that was published stays published when the power goes.
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA foreign_keys = ON")
        with self.transaction():
            if not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA:
                    execute(statement)
        found = (execute("PRAGMA application_id").fetchone()[0], execute("PRAGMA user_version").fetchone()[0])
        if found != (_APPLICATION, FORMAT):
            raise StateError(
                f"{self.path} is no registry of format {FORMAT} (it says {found}); use the version of nearline that "
                "wrote it, or give another folder"
            )

    def _insist(self, statement: str) -> None:
        """Execute what SQLite does not wait for by itself while another process has the file."""
        end = time.monotonic() + self._patience
        while True:
            try:
                self._connection.execute(statement).fetchall()
                return
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def rows(self, query: str, *values: Any) -> list[Any]:
        """All rows of a query."""
        with self._turn, self._explained():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, one process at a time."""
        with self._turn, self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Release the file."""
        with self._turn:
            self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise StateError(f"{self.path}: {error}; {self._advice(error)}") from None

    def _advice(self, error: sqlite3.Error) -> str:
        name = _name(error)
        if _is_busy(error):
            return f"another process has held the registry for {self._patience:g} s; try again when it is done"
        if name.startswith("SQLITE_FULL"):
            return "the disk is full: nothing was changed; free space and try again"
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            return "give the process a folder that it may write"
        if isinstance(error, sqlite3.ProgrammingError):
            return "the registry was closed; open it again"
        return (
            f"the file is damaged: restore it from a copy, or move {self.path.name}* away and register the folders in "
            f"{self.path.parent / 'versions'} again"
        )


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or ""


def _is_busy(error: sqlite3.Error) -> bool:
    return _name(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
