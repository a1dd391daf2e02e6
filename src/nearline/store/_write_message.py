"""Blocks of rows to a file in one compiled call: copied, summed, written and synced without Python's lock.

Every time that the writing thread takes the lock back, it waits for a busy event loop, and then the loop for it.
"""

from __future__ import annotations

from errno import EINTR
from typing import Any

import numpy as np
from numba import njit, types

from nearline.features._block_copy import ZERO, address_of, int32_at
from nearline.features._str_index import LEAF, UNHELD
from nearline.store._crc32 import crc32
from nearline.store._fill_message import SIZE, fill
from nearline.store._message import DIGITS

_pwrite: Any = types.ExternalFunction("pwrite", types.int64(types.int32, types.int64, types.int64, types.int64))
_fdatasync: Any = types.ExternalFunction("fdatasync", types.int32(types.int32))
_errno: Any = types.ExternalFunction("__errno_location", types.int64())
_LETTER = 97


@njit(**LEAF)
def _put_sum(total: Any, out: Any, at: int) -> None:
    """Eight hexadecimal digits at out[at]."""
    for k in range(DIGITS):
        digit = (total >> np.uint32(28 - 4 * k)) & np.uint32(15)
        out[at + k] = np.uint8(ZERO + digit if digit < 10 else _LETTER - 10 + digit)


@njit(**UNHELD)
def fill_message(
    head: Any, numbers: Any, fields: Any, blocks: Any, nulls: Any, places: Any, buffers: Any, tag: Any, out: Any,
    narrow: Any, wide: Any,
) -> None:  # fmt: skip
    """`fill`, for a message that something else writes or reads."""
    fill(head, numbers, fields, blocks, nulls, places, buffers, tag, out, narrow, wide)


@njit(**UNHELD)
def write_message(
    head: Any, numbers: Any, fields: Any, blocks: Any, nulls: Any, places: Any, buffers: Any, tag: Any, out: Any,
    narrow: Any, wide: Any, tables: Any, entry: Any, begin: int, file: int, at: int,
) -> Any:  # fmt: skip
    """`fill`, then the entry at out[begin], its last eight bytes being the checksum's; all to a file's byte `at`, and a
    sync.

    Returns
    -------
    (int, int)
        Bytes written, and what the system refused to do next (`errno`; 0 when all is durable).
    """
    if fields.shape[0] > 0:
        fill(head, numbers, fields, blocks, nulls, places, buffers, tag, out, narrow, wide)
    for k in range(entry.shape[0]):
        out[begin + k] = entry[k]
    size, done = numbers[SIZE], 0
    _put_sum(crc32(tables, out, size), out, begin + entry.shape[0] - DIGITS)
    while done < size:
        count = _pwrite(np.int32(file), address_of(out) + done, size - done, at + done)
        if count <= 0 and int32_at(_errno()) != EINTR:
            return done, np.int64(int32_at(_errno()))
        done += max(count, 0)
    if _fdatasync(np.int32(file)) != 0:
        return done, np.int64(int32_at(_errno()))
    return done, np.int64(0)
