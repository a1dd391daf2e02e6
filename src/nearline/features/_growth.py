"""What a vocabulary learned since a moment, and how another one learns the same: slots, entities, column heads.

Slots and codes are given in order of appearance and never change, so what is new is the tail behind an `Extent`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from nearline._errors import StateError
from nearline.features._entities import Entity
from nearline.features._vocabulary import Column
from nearline.schema._columns import Level
from nearline.schema._kinds import ColumnKind

if TYPE_CHECKING:
    from nearline.features._encoder import Encoder

Head: TypeAlias = tuple[ColumnKind | None, str | None, float | None, float | None]
"""What a column learned once: kind, family, center and scale; None while it is not known."""
Families: TypeAlias = tuple[tuple[str | None, ...], ...]
"""Families of the columns of every key."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a vocabulary knew at a moment: slots, entities per key, heads of columns, families of keys."""

    n_slots: int
    entities: tuple[int, ...]
    heads: tuple[Head, ...]
    families: Families


@dataclass(frozen=True, slots=True)
class Growth:
    """What a vocabulary learned since an `Extent`.

    Attributes
    ----------
    first_slot, slots
        The new slots from `first_slot` on, each as (column number, level).
    first_code, entities
        For every key, the new entities from code `first_code` on.
    heads, families
        Of all columns and keys, where any changed; else None.
    """

    first_slot: int
    slots: Sequence[tuple[int, Level]]
    first_code: tuple[int, ...]
    entities: tuple[Sequence[Entity], ...]
    heads: tuple[Head, ...] | None = None
    families: Families | None = None


def extent(encoder: Encoder) -> Extent:
    """How much the vocabulary knows now."""
    known = encoder._entities.values()
    return Extent(
        encoder.n_slots, tuple(len(entities.values) for entities in known),
        tuple((column.kind, column.family, column.center, column.scale) for column in encoder._columns),
        tuple(tuple(entities.families) for entities in known),
    )  # fmt: skip


def growth(encoder: Encoder, since: Extent) -> Growth:
    """What the vocabulary learned since an extent of its own; costs what is new, not what is known."""
    now = extent(encoder)
    known = encoder._entities.values()
    return Growth(
        since.n_slots, _new_slots(encoder._columns, since.n_slots, now.n_slots), since.entities,
        tuple(entities.values[first:] for entities, first in zip(known, since.entities)),
        None if now.heads == since.heads else now.heads, None if now.families == since.families else now.families,
    )  # fmt: skip


def _new_slots(columns: Sequence[Column], first: int, stop: int) -> list[tuple[int, Level]]:
    found: list[tuple[int, int, Level]] = []
    for number, column in enumerate(columns if stop > first else ()):
        # Levels stand in the order of their slots, so the new ones are met first from the end.
        for level, slot in reversed(column.slots.items()):
            if slot < first:
                break
            found.append((slot, number, level))
    return [(number, level) for _, number, level in sorted(found, key=lambda entry: entry[0])]


def extend(encoder: Encoder, new: Growth) -> None:
    """Learn what another vocabulary learned; nothing changes if it does not continue this one.

    Raises
    ------
    StateError
        When the growth does not start where this vocabulary ends.
    """
    _check(encoder, new)
    if new.heads is not None:
        pairs = zip(encoder._columns, new.heads)
        encoder._remember([Column(column.name, *head, slots=column.slots) for column, head in pairs])
    for number, level in new.slots:
        encoder._slots.add(encoder._columns[number], level)
    for place, (known, values) in enumerate(zip(encoder._entities.values(), new.entities)):
        if len(values) or new.families is not None:
            known.grow(values, list(known.families if new.families is None else new.families[place]))


def _check(encoder: Encoder, new: Growth) -> None:
    now = extent(encoder)
    heads = now.heads if new.heads is None else new.heads
    fits = len(heads) == len(now.heads) and len(new.entities) == len(now.entities)
    fits = fits and (not new.slots or new.first_slot == now.n_slots)
    fits = fits and all(not len(e) or f == n for e, f, n in zip(new.entities, new.first_code, now.entities))
    if not fits:
        raise StateError(
            f"new vocabulary from slot {new.first_slot} and codes {new.first_code} does not continue one of "
            f"{now.n_slots} slots and {now.entities} entities; apply deltas in their order, each once, to a copy "
            "of the model they were taken from"
        )


def copy(encoder: Encoder) -> Encoder:
    """An independent vocabulary that knows the same."""
    twin = type(encoder)(encoder.schema, encoder.features, encoder.keys)
    twin._remember([Column(c.name, c.kind, c.family, c.center, c.scale, dict(c.slots)) for c in encoder._columns])
    twin._slots.names[:], twin._slots.columns[:] = encoder._slots.names, encoder._slots.columns
    for key, known in encoder._entities.items():
        twin._entities[key] = known.copy()
    return twin
