"""Blocks of rows as a reader leaves them, for a log of a small schema."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from nearline.features import BlockShape, RowBlock
from nearline.store import Run
from nearline.store._packed import Packer

SCHEMA = pa.schema(
    {"id": pa.string(), "time": pa.float64(), "user": pa.string(), "x": pa.float64(), "k": pa.int64(),
     "page": pa.string(), "version": pa.string(), "seed": pa.int64()}
)  # fmt: skip
MADE = {"id": Run("aaaaaaaa", 0.0, 0)}
SHAPE = BlockShape({"user": (2, 1), "x": (0, 0), "k": (1, 0), "page": (2, 0)})
PACKER = Packer(SCHEMA, MADE)


def block(rows: list[dict[str, Any]], shape: BlockShape = SHAPE, room: int = 2) -> RowBlock:
    """Rows as a reader leaves them, with room for more rows and other text around the strings."""
    n, text = len(rows), b"{"
    numbers, integers = np.full((1, n + room), np.nan), np.zeros((1, n + room), np.int64)
    given_there, spans = np.zeros((1, n + room), np.uint8), np.full((2, n + room, 2), -1, np.int32)
    totals = np.zeros((3, 2), np.int64)
    for i, row in enumerate(rows):
        numbers[0, i] = row["x"]
        if row["k"] is not None:
            integers[0, i], given_there[0, i] = row["k"], 1
            totals[2, 1] += 1
        for k, name in enumerate(("page", "user")):
            if row[name] is not None:
                data = row[name].encode()
                spans[k, i] = len(text) + 1, len(data)
                text += b'"' + data + b'",'
                totals[k] += len(data), 1
    return RowBlock(
        shape, n, np.frombuffer(text + bytes(8), np.uint8), numbers, integers, given_there, spans, totals, {}
    )


ROW = {"user": "ann", "page": "p", "x": 0.5, "k": 1}
