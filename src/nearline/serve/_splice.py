"""Numbers in JSON text set between constant texts and counted ids, compiled.

Found on disk by this file's text alone: who changes `_str_index` or `_block_copy` must clear `__pycache__`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from nearline.features._block_copy import decimal
from nearline.features._str_index import LEAF, PAD, UNHELD, copy, trailing_zeros, word

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


@njit(**UNHELD)
def splice(
    numbers: Any, opening: Any, head: Any, middle: Any, tail: Any, closing: Any, first: int, ends: Any, out: Any
) -> None:
    """Write texts with one number after the other, those before ends[0] to the first, and so on; `ends` then is where
    the texts end.

    A text is `opening`, then for each number, by commas that begin the heads but the first: head, first + k, middle,
    number k and tail; then `closing`. `numbers` are a JSON list. PAD bytes end every piece, and may be written behind
    what is meant in `out`.
    """
    at, to, k = 1, 0, 0
    for b in range(ends.shape[0]):
        to, comma = copy(opening, 0, opening.shape[0] - PAD, out, to), 1
        while k < ends[b]:
            to = copy(head, comma, head.shape[0] - PAD - comma, out, to)
            to = decimal(first + k, out, to)
            to = copy(middle, 0, middle.shape[0] - PAD, out, to)
            end = number_end(numbers, at)
            to = copy(numbers, at, end - at, out, to)
            at, k, comma = end + 1, k + 1, 0
            to = copy(tail, 0, tail.shape[0] - PAD, out, to)
        to = copy(closing, 0, closing.shape[0] - PAD, out, to)
        ends[b] = to
