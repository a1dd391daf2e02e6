"""From designs and blocks to the records that the kernels take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError, DataError
from nearline.features import Design, Encoder
from nearline.glmix._effects import Fixed, Loadings, Random, check_columns
from nearline.glmix._state import Block

if TYPE_CHECKING:
    from nearline.glmix._kernels._records import Blocks, Rows


def key_of(block: Block) -> str | tuple[str, ...] | None:
    """The design's key of a block's entities; None for the fixed effect."""
    if isinstance(block.effect, Fixed):
        return None
    return block.effect.key[0] if len(block.effect.key) == 1 else block.effect.key


def code_of(block: Block, encoder: Encoder, entity: Any) -> int:
    """Code of an entity that the block has met, by its name; 0 for the fixed effect."""
    key = key_of(block)
    if key is None:
        return 0
    if entity is None:
        raise ConfigError(f"effect {block.name!r} has one vector per {key}; name the entity")
    code = encoder.entity_codes(key).get(entity, block.entities)
    if code >= block.entities:
        raise DataError(f"{entity!r} was never seen", column=str(key), fix="its coefficients are the prior's")
    return code


def check_loadings(effects: Sequence[Fixed | Random | Loadings]) -> None:
    """Refuse effects that share a name, and loadings on anything but a `Random` effect and its columns."""
    names = [effect.name for effect in effects]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two effects are named {name!r}; give one of them name=...")
    random = {effect.name: effect.on for effect in effects if isinstance(effect, Random)}
    for effect in effects:
        if not isinstance(effect, Loadings):
            continue
        if effect.of not in random:
            raise ConfigError(f"Loadings(of={effect.of!r}) must name a Random effect; this model has {sorted(random)}")
        check_columns(f"Loadings({effect.key[0]!r}, of={effect.of!r})", effect, random[effect.of])


def grow(blocks: Sequence[Block], encoder: Encoder) -> None:
    """Give every block the slots and entities that its encoder has met since the block last grew."""
    names = encoder.slot_columns
    by_name = {block.name: block for block in blocks}
    for block in blocks:
        new = [slot for slot in range(block.known_slots, len(names)) if block.selects(names[slot])]
        block.grow_dimensions(new, [names[slot] for slot in new])
        block.known_slots = len(names)
    for block in blocks:
        if isinstance(block.effect, Loadings):
            target = by_name[block.effect.of]
            block.grow_dimensions([], target.columns[block.d :])
        key = key_of(block)
        block.grow_entities(1 if key is None else encoder.n_entities(key))


def as_known(design: Design, blocks: Sequence[Block], encoder: Encoder) -> Design:
    """A design as blocks know its features: a vocabulary shared by forks may be ahead of them."""
    known = min(block.known_slots for block in blocks)
    return design if known == encoder.n_slots else design.before(known, encoder)


def local_dimensions(block: Block, n_slots: int) -> NDArray[np.int32]:
    """The block's own dimension of each slot, or −1."""
    local = np.full(n_slots, -1, dtype=np.int32)
    if block.slots:
        local[block.slots] = np.arange(len(block.slots), dtype=np.int32)
    return local


def targets(blocks: Sequence[Block]) -> list[int]:
    """The number of the block that each loadings block loads on, −1 for the others."""
    number = {block.name: r for r, block in enumerate(blocks)}
    return [number[block.effect.of] if isinstance(block.effect, Loadings) else -1 for block in blocks]


def check_design(design: Design, encoder: Encoder, *, learn: bool) -> None:
    """Refuse a design of another vocabulary, and one encoded for scoring where it is to be learned."""
    known = all(
        key in design.entities and int(design.entities[key].max(initial=-1)) < encoder.n_entities(key)
        for key in encoder.keys
    )
    if not known or int(design.indices.max(initial=0)) >= encoder.n_slots:
        raise DataError("the design was made by another model", fix="make it with this model's own design(...)")
    unseen = any(int(codes.min(initial=0)) < 0 for codes in design.entities.values())
    if learn and (unseen or design.without_slot is not None or np.isnan(design.label).any()):
        problem = "the design has rows without a label or an entity, or a feature value without a coefficient"
        raise DataError(problem, fix="make it with design(..., learn=True)")


def entity_codes(block: Block, design: Design) -> NDArray[np.int32]:
    """The entity of each row (n) in one block: 0 for the fixed effect, −1 for one that the block has not met.

    A vocabulary shared by forks of a model may know entities that this block does not.
    """
    return known_codes(block, named_codes(block, design))


def named_codes(block: Block, design: Design) -> NDArray[np.int32]:
    """The entity of each row (n) under the design's own code, which tells entities never seen from each other."""
    key = key_of(block)
    return np.zeros(design.rows, np.int32) if key is None else design.entities[key]


def known_codes(block: Block, codes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Codes with −1 for every entity that the block has not met."""
    return np.where((codes >= 0) & (codes < block.entities), codes, np.int32(-1))


def kernel_rows(design: Design, blocks: Sequence[Block]) -> Rows:
    """A design as the kernels take it."""
    from nearline.glmix._kernels._records import Rows

    entities = np.empty((len(blocks), design.rows), dtype=np.int32)
    for r, block in enumerate(blocks):
        entities[r] = entity_codes(block, design)
    columns = (design.label, design.weight, design.offset, design.time)
    return Rows(
        np.ascontiguousarray(design.indptr), np.ascontiguousarray(design.indices, dtype=np.int32),
        np.ascontiguousarray(design.values), entities, *(np.ascontiguousarray(c, dtype=np.float64) for c in columns),
    )  # fmt: skip


def kernel_blocks(blocks: Sequence[Block], n_slots: int, locked: frozenset[str] = frozenset()) -> Blocks:
    """Blocks as the kernels take them: addresses into the blocks' arrays, which must outlive the record.

    Blocks named in `locked` are scored and not updated.
    """
    from nearline.glmix._kernels._records import Blocks

    of = targets(blocks)
    priors = [block.prior_arrays() for block in blocks]
    walks = [block.belief.walks(block.columns) for block in blocks]
    D = max(1, *(block.d for block in blocks)) if blocks else 1
    P = max(1, *(block.cov_size for block in blocks)) if blocks else 1
    dtype = blocks[0].dtype
    return Blocks(
        local=np.stack([local_dimensions(block, n_slots) for block in blocks]),
        d=_ints(block.d for block in blocks),
        size=_ints(block.cov_size for block in blocks),
        kinds=_ints(block.kind for block in blocks),
        of=_ints(of),
        loaded=np.array([r in of for r in range(len(blocks))], dtype=np.bool_),
        forms=_ints(block.belief.form for block in blocks),
        rates=np.array([block.belief.rate for block in blocks], dtype=np.float64),
        walks=np.array([bool(np.any(event) or np.any(second)) for event, second in walks], dtype=np.bool_),
        mean_at=_ints(block.mean.ctypes.data for block in blocks),
        cov_at=_ints(block.cov.ctypes.data for block in blocks),
        last_at=_ints(block.last.ctypes.data for block in blocks),
        count_at=_ints(block.counts.ctypes.data for block in blocks),
        mu0=_padded([mu0 for mu0, _ in priors], D, dtype),
        cov0=_padded([cov0 for _, cov0 in priors], P, dtype),
        walk_event=_padded([event for event, _ in walks], D, np.float64),
        walk_second=_padded([second for _, second in walks], D, np.float64),
        like=np.empty(0, dtype=dtype),
        kmax=_ints(block.kmax for block in blocks),
        rank=_ints(block.effect.rank for block in blocks),
        locked=_ints(block.name in locked for block in blocks),
    )


def sizes(rows: Rows, blocks: Blocks) -> tuple[int, int, int, int]:
    """(R, D, P, K): how much working memory the kernels need."""
    widest = int(np.diff(rows.indptr).max()) if len(rows.indptr) > 1 else 0
    return len(blocks.d), blocks.mu0.shape[1], blocks.cov0.shape[1], max(1, widest)


def _ints(values: Any) -> NDArray[np.int64]:
    return np.array(list(values), dtype=np.int64)


def _padded(vectors: Sequence[NDArray[Any]], width: int, dtype: Any) -> NDArray[Any]:
    out = np.zeros((len(vectors), width), dtype=dtype)
    for row, vector in zip(out, vectors):
        row[: len(vector)] = vector
    return out
