"""What a learner changed since a moment, and how a replica comes to the same bits.

A learner and its replicas start from the same model. After every tick the learner makes a `Delta`: the vocabulary that
is new, beliefs that changed, and the rows of the entities that were touched. Rows that were not touched need not be
sent: growth gives them the prior of the new dimensions, which the replica does by itself, to the bit. Where that does
not hold, because a block changed its belief or its kind of posterior, all of its rows are sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.features import Design, Extent, Growth
from nearline.glmix import _layout
from nearline.glmix._codes import DIAGONAL, LOWRANK
from nearline.glmix._lowrank import row_size
from nearline.glmix._packed import packed_size
from nearline.glmix._state import Belief, Block

if TYPE_CHECKING:
    from nearline.glmix._model import GLMix

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Mark:
    """A model at a moment: its vocabulary's extent, and the kind and belief of every block.

    Beliefs are frozen, so a block has changed its belief exactly if it holds another object.
    """

    extent: Extent
    kinds: tuple[int, ...]
    beliefs: tuple[Belief, ...]

    @classmethod
    def of(cls, model: GLMix) -> Mark:
        """The model as it is now."""
        kinds = tuple(int(block.kind) for block in model.blocks)
        return cls(model.encoder.extent(), kinds, tuple(block.belief for block in model.blocks))


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Posteriors of some entities (E) of one block, all of one number of dimensions d ≤ the block's own.

    Attributes
    ----------
    codes
        The entities' rows in the block.
    mean, cov
        (E, d) and (E, size): as the block stores them.
    last, counts
        (E): time of the last update in seconds, NaN before the first; events learned.
    """

    codes: Codes
    mean: NDArray[Any]
    cov: NDArray[Any]
    last: NDArray[np.float64]
    counts: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class BlockDelta:
    """What changed in one block: its size now, its belief if that is another, and the changed rows.

    Attributes
    ----------
    whole
        All rows are here: the block changed its belief or its kind.
    """

    name: str
    kind: int
    d: int
    entities: int
    whole: bool
    belief: Belief | None
    rows: tuple[Rows, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """What a model changed since a `Mark`; see `Delta.of` and `Delta.apply`.

    Examples
    --------
    >>> from nearline import GLMix, Random, Schema
    >>> learner = GLMix(Schema(label="liked"), random=[Random("user")])
    >>> replica, mark = learner.replica(), Mark.of(learner)
    >>> design, _ = learner.design({"user": ["ann", "bob"], "liked": [1, 0]}, learn=True)
    >>> learner.partial_fit(design).rows
    2
    >>> delta = Delta.of(learner, touched_by(design, learner.blocks), mark)
    >>> delta.apply(replica)
    >>> bool((replica.decision_function({"user": ["ann"]}) == learner.decision_function({"user": ["ann"]})).all())
    True
    """

    growth: Growth
    events_learned: int
    blocks: tuple[BlockDelta, ...]

    @classmethod
    def of(cls, model: GLMix, touched: Mapping[str, Codes], since: Mark) -> Delta:
        """What a model changed since a mark, with a copy of the rows that learning touched.

        Parameters
        ----------
        touched
            Codes by name of effect, as `touched_by` finds them; an effect that is missing has none. What fitting,
            learning priors or a reset changes is not in it: that makes a new base, not a delta.
        since
            The model at its last delta.
        """
        _layout.grow(model.blocks, model.encoder)
        none = np.zeros(0, np.int64)
        blocks = zip(model.blocks, since.kinds, since.beliefs)
        return cls(
            model.encoder.growth(since.extent), model.events_learned,
            tuple(_block_delta(block, touched.get(block.name, none), kind, old) for block, kind, old in blocks),
        )  # fmt: skip

    @property
    def rows(self) -> int:
        """Number of rows, over all blocks."""
        return sum(len(rows.codes) for block in self.blocks for rows in block.rows)

    def apply(self, model: GLMix) -> None:
        """Bring a replica, which must be as the learner was at the mark, to the learner's bits.

        Raises
        ------
        StateError
            When the delta does not continue the replica. A delta of another model may be noticed only after the
            replica has taken part of it: make a new replica then.
        """
        if [block.name for block in self.blocks] != [block.name for block in model.blocks]:
            raise StateError(f"a delta of the effects {[b.name for b in self.blocks]} does not fit {model!r}")
        model.encoder.extend(self.growth)
        for change, block in zip(self.blocks, model.blocks):
            if change.whole:
                block.clear(change.belief or block.belief)
        _layout.grow(model.blocks, model.encoder)
        for change, block in zip(self.blocks, model.blocks):
            _check_shape(change, block)
            for rows in change.rows:
                _write(block, rows)
        model.events_learned = self.events_learned


def touched_by(design: Design, blocks: Sequence[Block]) -> dict[str, Codes]:
    """Codes of all entities that a design names, ascending, by effect; the fixed effect's only row is 0.

    Examples
    --------
    >>> from nearline import Fixed, GLMix, Random, Schema
    >>> model = GLMix(Schema(label="y"), Fixed(), [Random("user")])
    >>> design, _ = model.design({"user": ["b", "a", "b"], "y": [1, 0, 1]}, learn=True)
    >>> {name: codes.tolist() for name, codes in touched_by(design, model.blocks).items()}
    {'fixed': [0], 'user': [0, 1]}
    """
    found = {block.name: np.unique(_layout.entity_codes(block, design)).astype(np.int64) for block in blocks}
    return {name: codes[np.searchsorted(codes, 0) :] for name, codes in found.items()}


def union(*touched: Mapping[str, Codes]) -> dict[str, Codes]:
    """Codes that any of several designs touched.

    Examples
    --------
    >>> union({"user": np.array([1, 3])}, {"user": np.array([0, 1])}, {})["user"].tolist()
    [0, 1, 3]
    """
    names = dict.fromkeys(name for each in touched for name in each)
    return {name: np.unique(np.concatenate([each[name] for each in touched if name in each])) for name in names}


def _block_delta(block: Block, touched: Codes, kind: int, belief: Belief) -> BlockDelta:
    whole = kind != block.kind or belief is not block.belief
    codes = np.arange(block.entities, dtype=np.int64) if whole else touched
    rows = Rows(codes, block.mean[codes], block.cov[codes], block.last[codes], block.counts[codes])
    changed = None if belief is block.belief else block.belief
    return BlockDelta(
        block.name, int(block.kind), block.d, block.entities, whole, changed, (rows,) if len(codes) else ()
    )  # fmt: skip


def cov_size(kind: int, d: int, kmax: int) -> int:
    """Numbers per entity in the covariances of a block of this kind with d dimensions."""
    if kind == LOWRANK:
        return row_size(d, kmax)
    return d if kind == DIAGONAL else packed_size(d)


def _check_shape(change: BlockDelta, block: Block) -> None:
    wanted, found = (change.kind, change.d, change.entities), (int(block.kind), block.d, block.entities)
    fits = wanted == found and all(int(rows.codes.max(initial=-1)) < block.entities for rows in change.rows)
    if not fits:
        raise StateError(
            f"effect {block.name!r}: the delta leads to (kind, dimensions, entities) = {wanted}, this model came to "
            f"{found}; deltas apply in their order, each once, to a copy of the model they were taken from"
        )


def _write(block: Block, rows: Rows) -> None:
    """Rows of fewer dimensions are a prefix: growth has put the prior behind it."""
    block.mean[rows.codes, : rows.mean.shape[1]] = rows.mean
    block.cov[rows.codes, : rows.cov.shape[1]] = rows.cov
    block.last[rows.codes], block.counts[rows.codes] = rows.last, rows.counts
