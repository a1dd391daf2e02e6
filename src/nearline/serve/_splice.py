"""Numbers in JSON text set between constant texts and counted ids, compiled.

Found on disk by this file's text alone: who changes `_str_index` or `_block_copy` must clear `__pycache__`. Python's
lock is kept, as in every kernel that serves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from nearline.features._block_copy import decimal
from nearline.features._str_index import LEAF, PAD, copy, trailing_zeros, word

COMMA, CLOSE_LIST = 44, 93


@njit(**LEAF)
def number_end(numbers: Any, at: int) -> Any:
    """The next place of a comma or a closing bracket."""
    low, high = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
    while True:
        w = word(numbers, at)
        comma, close = w ^ (low * np.uint64(COMMA)), w ^ (low * np.uint64(CLOSE_LIST))
        # A byte v is zero where (v − 0x01…) & ~v & 0x80… has its top bit (Mycroft); the first that it finds is right.
        stop = (((comma - low) & ~comma) | ((close - low) & ~close)) & high
        if stop != np.uint64(0):
            return at + (trailing_zeros(stop) >> 3)
        at += 8


@njit(**LEAF)
def splice(numbers: Any, head: Any, middle: Any, tail: Any, first: int, n: int, out: Any) -> Any:
    """Write head, first + k, middle, number k and tail for each of n numbers; where that ends.

    `numbers` are a JSON list. PAD bytes end every text, and may be written behind what is meant in `out`.
    """
    at, to = 1, 0
    for k in range(n):
        to = copy(head, 0, head.shape[0] - PAD, out, to)
        to = decimal(first + k, out, to)
        to = copy(middle, 0, middle.shape[0] - PAD, out, to)
        end = number_end(numbers, at)
        to = copy(numbers, at, end - at, out, to)
        at = end + 1
        to = copy(tail, 0, tail.shape[0] - PAD, out, to)
    return to
