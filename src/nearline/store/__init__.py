"""What survives a crash: the ledger's logs and their recorder; the state, its positions and the registry of versions."""

from nearline._errors import Overloaded
from nearline.store._lmdb import LmdbStateStore
from nearline.store._log import Log
from nearline.store._memory import MemoryLog
from nearline.store._model_state import line, new_line, restore, save_delta
from nearline.store._recorder import Recorder
from nearline.store._runs import Run, Runs
from nearline.store._schemas import EXAMPLES, OUTCOMES, examples_schema, predictions_schema
from nearline.store._state import Changes, MemoryStateStore, Snapshot, StateStore

__all__ = [
    "EXAMPLES",
    "OUTCOMES",
    "Changes",
    "LmdbStateStore",
    "Log",
    "MemoryLog",
    "MemoryStateStore",
    "Overloaded",
    "Recorder",
    "Run",
    "Runs",
    "Snapshot",
    "StateStore",
    "examples_schema",
    "line",
    "new_line",
    "predictions_schema",
    "restore",
    "save_delta",
]
