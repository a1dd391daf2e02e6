"""What survives a crash: the state, its positions and the registry of versions."""

from nearline.store._lmdb import LmdbStateStore
from nearline.store._model_state import line, new_line, restore, save_delta
from nearline.store._state import Changes, MemoryStateStore, Snapshot, StateStore

__all__ = [
    "Changes",
    "LmdbStateStore",
    "MemoryStateStore",
    "Snapshot",
    "StateStore",
    "line",
    "new_line",
    "restore",
    "save_delta",
]
