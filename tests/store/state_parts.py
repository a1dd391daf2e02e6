"""A state store, read whole."""

from __future__ import annotations

from typing import Any

from nearline.store import StateStore


def everything(store: StateStore, *tables: str) -> tuple[dict[str, int], dict[str, Any], dict[str, dict[bytes, bytes]]]:
    with store.snapshot() as state:
        return dict(state.positions), dict(state.meta), {name: dict(state.table(name)) for name in tables}
