"""A model in a state store: laid over the version that it started from, its line.

The base version's folder holds most of the model. The store holds what was learned since: rows of the entities that
were touched, the vocabulary that is new, beliefs that changed. Another base version is another line, begun in one
transaction.
"""

from __future__ import annotations

from nearline._errors import StateError
from nearline.glmix import Delta, GLMix, dump_delta, parse_delta
from nearline.glmix._persist import TABLES
from nearline.store._state import Changes, Snapshot

LINE = "line"


def save_delta(delta: Delta) -> Changes:
    """A delta as changes for `StateStore.commit`, to be committed with the positions that it was learned up to.

    Examples
    --------
    >>> from nearline import GLMix, Random, Schema
    >>> from nearline.glmix import Delta, Mark, touched_by
    >>> from nearline.store import MemoryStateStore
    >>> base = GLMix(Schema(label="liked"), random=[Random("user")])
    >>> store, learner = MemoryStateStore(), base.replica()
    >>> store.commit(new_line("1.0.0"), {"examples": 0})
    >>> mark = Mark.of(learner)
    >>> design, _ = learner.design({"user": ["ann", "bob"], "liked": [1, 0]}, learn=True)
    >>> learner.partial_fit(design).rows
    2
    >>> store.commit(save_delta(Delta.of(learner, touched_by(design, learner.blocks), mark)), {"examples": 2})
    >>> with store.snapshot() as state:
    ...     again = restore(base, state, line="1.0.0")
    >>> bool((again.block("user").mean == learner.block("user").mean).all())
    True
    """
    return Changes(dump_delta(delta))


def new_line(version: str) -> Changes:
    """Lay the state over another base version: what was learned over the old one goes."""
    return Changes(meta={LINE: version}, clear=TABLES)


def line(state: Snapshot) -> str | None:
    """The base version that the state is laid over; None before the first."""
    found = state.meta.get(LINE)
    return None if found is None else str(found)


def restore(base: GLMix, state: Snapshot, *, line: str) -> GLMix:
    """The model as it was at the commit: the base version, of which a copy is made, and what was learned over it.

    Raises
    ------
    StateError
        When the state is laid over another version than `line`, or does not fit the base.
    """
    found = state.meta.get(LINE)
    if found != line:
        raise StateError(
            f"the state is laid over version {found!r}, not {line!r}; load that version as the base, or begin a new "
            "line with new_line(...)"
        )
    replica = base.replica()
    parse_delta({name: state.table(name) for name in TABLES}, base).apply(replica)
    return replica
