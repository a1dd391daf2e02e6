"""Deltas as bytes for a key-value store, and the sum of all deltas since a base version from what the store holds.

Three tables. A later value of a key replaces the earlier, so a table holds the last value of every key:

    rows         block (2 bytes), code (4 bytes), big-endian   [d, kind, width, count, format, last | mean | cov]
    vocabulary   "s" slot | "e" key number, code | "c" | "k"   new slots, entities from there on | heads | families
    model        "blocks" | "belief" and block                 sizes, events learned | a belief that is not the base's

A row stored when its block had fewer dimensions is a prefix of today's row: the rest is the prior. Rows of another kind
than their block's do not occur, as a block that changes its kind or belief stores all of its rows anew.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.features import Extent, Growth
from nearline.glmix._delta import BlockDelta, Delta, Rows, cov_size
from nearline.glmix._effects import Forgetting, Prior
from nearline.glmix._save import plain
from nearline.glmix._state import Belief, Block
from nearline.schema import Categorical, Hashed, Multi, Numeric, Vector

if TYPE_CHECKING:
    from nearline.glmix._model import GLMix

TABLES = ROWS, VOCABULARY, MODEL = "rows", "vocabulary", "model"
Table = Mapping[bytes, Any]

_KEY = np.dtype([("block", ">u2"), ("code", ">u4")])
_HEADER = np.dtype(
    [("d", "<u4"), ("kind", "<u2"), ("width", "<u2"), ("count", "<i4"), ("format", "<u4"), ("last", "<f8")]
)
_ENTITIES = struct.Struct(">cHI")
_SLOTS = struct.Struct(">cI")
_HEADS, _FAMILIES, _BLOCKS, _BELIEF = b"c", b"k", b"blocks", b"belief"
_FORMAT = 1
_CHUNK = 2048
"""Rows that are joined at a time: their bytes stay in cache on the way into the arrays."""
_FIX = (
    "the state is damaged or was laid over another base version: start from the base version anew, or restore the "
    "state from a copy"
)
_KINDS = {kind.__name__: kind for kind in (Numeric, Categorical, Multi, Vector, Hashed)}


def dump_delta(delta: Delta) -> dict[str, dict[bytes, Any]]:
    """What to put into each table; values are bytes or memoryviews.

    Examples
    --------
    >>> from nearline import GLMix, Random, Schema
    >>> from nearline.glmix._delta import Mark, touched_by
    >>> model = GLMix(Schema(label="y"), random=[Random("user")])
    >>> mark = Mark.of(model)
    >>> design, _ = model.design({"user": ["ann"], "y": [1]}, learn=True)
    >>> model.partial_fit(design).rows
    1
    >>> tables = dump_delta(Delta.of(model, touched_by(design, model.blocks), mark))
    >>> [(name, len(table)) for name, table in tables.items()]
    [('rows', 2), ('vocabulary', 2), ('model', 1)]
    """
    rows: dict[bytes, Any] = {}
    for number, block in enumerate(delta.blocks):
        for part in block.rows:
            rows.update(zip(_keys(number, part), _packed(block.kind, part)))
    sizes = [(block.name, block.kind, block.d, block.entities) for block in delta.blocks]
    model = {_BLOCKS: msgspec.msgpack.encode((delta.events_learned, sizes))}
    for number, block in enumerate(delta.blocks):
        if block.belief is not None:
            model[_BELIEF + number.to_bytes(2)] = _belief_bytes(block.belief)
    return {ROWS: rows, VOCABULARY: _vocabulary(delta.growth), MODEL: model}


def _keys(number: int, rows: Rows) -> list[bytes]:
    keys = np.empty(len(rows.codes), _KEY)
    keys["block"], keys["code"] = number, rows.codes
    data, size = keys.tobytes(), _KEY.itemsize
    return [data[at : at + size] for at in range(0, len(data), size)]


def _packed(kind: int, rows: Rows) -> list[memoryview]:
    """The value of every row: slices of one array, laid out a field at a time for all rows at once."""
    E, width = len(rows.codes), rows.mean.dtype.itemsize
    header = np.zeros(E, _HEADER)
    header["d"], header["kind"], header["width"], header["format"] = rows.mean.shape[1], kind, width, _FORMAT
    header["count"], header["last"] = rows.counts, rows.last
    fields = (header[:, None], rows.mean.astype(f"<f{width}"), rows.cov.astype(f"<f{width}"))
    out = np.concatenate([_bytes(field) for field in fields], axis=1)
    data, size = out.reshape(-1).data, out.shape[1]
    return [data[at : at + size] for at in range(0, len(data), size)]


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Rows (E, k) as bytes (E, k · itemsize)."""
    E, k = array.shape
    return np.frombuffer(array.tobytes(), np.uint8).reshape(E, k * array.dtype.itemsize)


def _vocabulary(growth: Growth) -> dict[bytes, bytes]:
    out: dict[bytes, bytes] = {}
    if growth.heads is not None:
        heads = [(kind and (type(kind).__name__, asdict(kind)), *rest) for kind, *rest in growth.heads]
        out[_HEADS] = msgspec.msgpack.encode(heads)
    if growth.families is not None:
        out[_FAMILIES] = msgspec.msgpack.encode(growth.families)
    if growth.slots:
        out[_SLOTS.pack(b"s", growth.first_slot)] = msgspec.msgpack.encode(growth.slots)
    for number, (first, values) in enumerate(zip(growth.first_code, growth.entities)):
        if values:
            out[_ENTITIES.pack(b"e", number, first)] = msgspec.msgpack.encode(values)
    return out


def _belief_bytes(belief: Belief) -> bytes:
    arrays = [None if array is None else array.astype("<f8").tobytes() for array in (belief.mean, belief.covariance)]
    prior, forgetting = (msgspec.to_builtins(part, enc_hook=plain) for part in (belief.prior, belief.forgetting))
    return msgspec.msgpack.encode((prior, forgetting, *arrays))


def parse_delta(tables: Mapping[str, Table], base: GLMix) -> Delta:
    """All that was stored since a base version as one delta, to be applied to a replica of that version.

    Raises
    ------
    StateError
        When a value is damaged, or the tables are not those of this base.
    """
    try:
        return _parse({name: tables.get(name, {}) for name in TABLES}, base)
    except (msgspec.DecodeError, struct.error, KeyError, TypeError, ValueError) as error:
        raise StateError(f"the stored state of the model cannot be read ({error!r}); {_FIX}") from None


def _parse(tables: Mapping[str, Table], base: GLMix) -> Delta:
    events, sizes = base.events_learned, [(b.name, int(b.kind), b.d, b.entities) for b in base.blocks]
    if _BLOCKS in tables[MODEL]:
        events, sizes = msgspec.msgpack.decode(tables[MODEL][_BLOCKS], type=tuple[int, list[tuple[str, int, int, int]]])
    if [name for name, *_ in sizes] != [block.name for block in base.blocks]:
        raise StateError(f"the stored state has the effects {[name for name, *_ in sizes]}, the base version {base!r}")
    stored = _stored_rows(tables[ROWS], base)
    blocks = []
    for number, (block, (name, kind, d, entities)) in enumerate(zip(base.blocks, sizes)):
        belief = _belief_from(tables[MODEL].get(_BELIEF + number.to_bytes(2)))
        rows = tuple(_rows(block, kind, *stored[number])) if number in stored else ()
        whole = belief is not None or kind != block.kind
        blocks.append(BlockDelta(name, kind, d, entities, whole, belief, rows))
    return Delta(_growth(tables[VOCABULARY], base.encoder.extent()), events, tuple(blocks))


def _stored_rows(table: Table, base: GLMix) -> dict[int, tuple[NDArray[np.int64], list[Any]]]:
    """(codes, values) by number of the block."""
    keys = sorted(table)
    found = np.frombuffer(b"".join(keys), _KEY)
    ends = np.searchsorted(found["block"], np.arange(len(base.blocks) + 1))
    if len(found) != len(keys) or ends[-1] != len(keys):
        raise StateError("stored rows belong to no effect of this model; the state was laid over another base version")
    values = [table[key] for key in keys]
    return {
        number: (found["code"][start:stop].astype(np.int64), values[start:stop])
        for number, (start, stop) in enumerate(pairwise(ends))
        if stop > start
    }


def _rows(block: Block, kind: int, codes: NDArray[np.int64], values: list[Any]) -> Iterator[Rows]:
    """Rows of one size at a time: rows of one size have one number of dimensions."""
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    order = np.argsort(lengths, kind="stable")
    bounds = np.flatnonzero(np.diff(lengths[order], prepend=-1))
    for start, stop in zip(bounds, np.append(bounds[1:], len(order))):
        for at in range(start, stop, _CHUNK):
            chosen = order[at : min(at + _CHUNK, stop)]
            data = np.frombuffer(b"".join([values[i] for i in chosen.tolist()]), np.uint8)
            yield _unpacked(block, kind, codes[chosen], data.reshape(len(chosen), lengths[chosen[0]]))


def _unpacked(block: Block, kind: int, codes: NDArray[np.int64], data: NDArray[np.uint8]) -> Rows:
    head, width = _HEADER.itemsize, block.dtype.itemsize
    header = data[:, :head].copy().view(_HEADER)[:, 0] if data.shape[1] >= head else np.zeros(len(data), _HEADER)
    d = int(header["d"][0])
    wanted = head + width * (d + cov_size(kind, d, block.kmax))
    known = (header["format"] == _FORMAT) & (header["d"] == d) & (header["kind"] == kind) & (header["width"] == width)
    if not known.all() or data.shape[1] != wanted:
        raise StateError(
            f"stored row of effect {block.name!r}, entity code {int(codes[np.argmin(known)])}: {data.shape[1]} bytes "
            f"do not hold a posterior of kind {kind} in {block.dtype}; {_FIX}"
        )
    dtype, middle = f"<f{width}", head + width * d
    mean, cov = data[:, head:middle].view(dtype), data[:, middle:].view(dtype)
    return Rows(codes, mean, cov, header["last"], header["count"])


def _belief_from(value: Any) -> Belief | None:
    if value is None:
        return None
    prior, forgetting, mean, covariance = msgspec.msgpack.decode(value)
    mu0 = None if mean is None else np.frombuffer(mean, "<f8").astype(np.float64)
    V0 = None if covariance is None else np.frombuffer(covariance, "<f8").astype(np.float64)
    if V0 is not None:
        V0 = V0.reshape(math.isqrt(V0.size), -1)
    return Belief(Prior(**prior), Forgetting(**forgetting), mu0, V0)


def _growth(table: Table, since: Extent) -> Growth:
    slots: list[tuple[int, Any]] = []
    entities: list[list[Any]] = [[] for _ in since.entities]
    heads, families = (msgspec.msgpack.decode(table[key]) if key in table else None for key in (_HEADS, _FAMILIES))
    for key in sorted(table):
        if key[:1] == b"s":
            _continues(since.n_slots + len(slots), _SLOTS.unpack(key)[1])
            slots += [(number, level) for number, level in msgspec.msgpack.decode(table[key])]
        elif key[:1] == b"e":
            _, number, first = _ENTITIES.unpack(key)
            _continues(since.entities[number] + len(entities[number]), first)
            values = msgspec.msgpack.decode(table[key])
            entities[number] += [tuple(value) if isinstance(value, list) else value for value in values]
    return Growth(
        since.n_slots, slots, since.entities, tuple(entities),
        heads and tuple((kind and _KINDS[kind[0]](**kind[1]), *rest) for kind, *rest in heads),
        families and tuple(map(tuple, families)),
    )  # fmt: skip


def _continues(known: int, first: int) -> None:
    if first != known:
        raise StateError(f"stored vocabulary goes on at {first} and {known} are known; {_FIX}")
