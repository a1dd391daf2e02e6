"""What survives a crash: the ledger and its recorder, the state and its positions, the registry of versions."""

from nearline._errors import Conflict, Overloaded
from nearline.store._lmdb import LmdbStateStore
from nearline.store._log import Log
from nearline.store._memory import MemoryLog
from nearline.store._model_state import line, new_line, restore, save_delta
from nearline.store._recorder import Recorder
from nearline.store._registry import Follower, Registry
from nearline.store._runs import Run, Runs
from nearline.store._schemas import EXAMPLES, OUTCOMES, examples_schema, predictions_schema
from nearline.store._search import first_at
from nearline.store._state import Changes, MemoryStateStore, Snapshot, StateStore
from nearline.store._version import Change, Record, Version

__all__ = [
    "EXAMPLES",
    "OUTCOMES",
    "Change",
    "Changes",
    "Conflict",
    "Follower",
    "LmdbStateStore",
    "Log",
    "MemoryLog",
    "MemoryStateStore",
    "Overloaded",
    "Record",
    "Recorder",
    "Registry",
    "Run",
    "Runs",
    "Snapshot",
    "StateStore",
    "Version",
    "examples_schema",
    "first_at",
    "line",
    "new_line",
    "predictions_schema",
    "restore",
    "save_delta",
]
