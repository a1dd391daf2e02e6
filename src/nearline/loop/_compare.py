"""What differs between two versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nearline.deep import load_model
from nearline.glmix import GLMix


def compare(one: Path, other: Path, *, top: int = 5) -> dict[str, Any]:
    """Sizes of every effect in two saved models, how many entities changed, and the coefficients that moved most.

    Effects are matched by name, entities and features by what they are called.
    """
    before, after = load_model(one), load_model(other)
    names = {block.name for block in before.blocks}
    return {"effects": [_effect(before, after, b.name, top) for b in after.blocks if b.name in names]}


def _effect(before: GLMix, after: GLMix, name: str, top: int) -> dict[str, Any]:
    a, b = before.block(name), after.block(name)
    rows, dims = _shared_rows(before, after, name), _shared_dims(before, after, name)
    moves = b.mean[np.ix_(rows[:, 1], dims[:, 1])] - a.mean[np.ix_(rows[:, 0], dims[:, 0])].astype(np.float64)
    order = np.argsort(-np.abs(moves), axis=None)[:top]
    largest = (
        [_move(before, after, name, rows[k // len(dims)], dims[k % len(dims)]) for k in order.tolist()]
        if len(dims)
        else []
    )
    return {
        "name": name, "entities": [a.entities, b.entities], "dims": [a.d, b.d],
        "changed": int(np.count_nonzero((moves != 0).any(axis=1))) if moves.size else 0,
        "largest": [move for move in largest if move["before"] != move["after"]],
    }  # fmt: skip


def _key(model: GLMix, name: str) -> Any:
    from nearline.glmix._layout import key_of

    return key_of(model.block(name))


def _shared_rows(before: GLMix, after: GLMix, name: str) -> Any:
    key = _key(before, name)
    if key is None:
        return np.zeros((1, 2), np.int64)
    known, codes = before.encoder.entity_codes(key), after.encoder.entity_codes(key)
    most = before.block(name).entities, after.block(name).entities
    pairs = [(code, codes[value]) for value, code in known.items() if value in codes]
    return np.array([pair for pair in pairs if pair[0] < most[0] and pair[1] < most[1]], np.int64).reshape(-1, 2)


def _shared_dims(before: GLMix, after: GLMix, name: str) -> Any:
    a, b = before.block(name), after.block(name)
    places = {after.encoder.slot_names[slot]: j for j, slot in enumerate(b.slots)}
    names = [before.encoder.slot_names[slot] for slot in a.slots]
    return np.array([(j, places[n]) for j, n in enumerate(names) if n in places], np.int64).reshape(-1, 2)


def _move(before: GLMix, after: GLMix, name: str, row: Any, dim: Any) -> dict[str, Any]:
    a, b, key = before.block(name), after.block(name), _key(after, name)
    return {
        "entity": "" if key is None else after.encoder.entity_name(key, int(row[1])),
        "feature": after.encoder.slot_names[b.slots[dim[1]]],
        "before": float(a.mean[row[0], dim[0]]), "after": float(b.mean[row[1], dim[1]]),
    }  # fmt: skip
