"""Checksums in the footer of a Parquet file: of every row group, and of the footer itself.

Parquet's own page checksums leave out page headers and the footer, where one bit can rename a column or move an offset.
So a sealed segment has one more entry among its key-value metadata, which other readers ignore:

    nearline.crc32 = "=… … … …"      eight hexadecimal digits each: the footer's, then one per row group

The footer's is that of all bytes from the footer's first to the end of the file, with its own digits as zeros; a row
group's is that of all bytes from the end of the one before (or the start of the file) to its own end. So every byte is
covered.
"""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

KEY = b"nearline.crc32"
# The length before the value may itself look like a digit: the value begins with "=".
_PATTERN = re.compile(KEY + rb".{1,9}?=((?:[0-9a-f]{8} )*[0-9a-f]{8})", re.DOTALL)
_TAIL = 8  # length of the footer as int32, then "PAR1"
_BLOCK = 1 << 20


def blank(groups: int) -> bytes:
    """The entry before the checksums are known."""
    return b"=" + b" ".join([b"00000000"] * (groups + 1))


def stamp(path: Path) -> None:
    """Fill in the checksums of a file written with a `blank` entry."""
    with path.open("rb+", buffering=0) as file:
        begin, footer = _footer(file.fileno())
        match = _PATTERN.search(footer)
        assert match is not None
        ends = group_ends(pq.read_metadata(path), begin)
        sums = [crc_of(file.fileno(), lo, hi) for lo, hi in zip([0, *ends], ends)]
        at = match.start(1)
        footer[at : match.end(1)] = b" ".join([b"00000000", *(b"%08x" % value for value in sums)])
        footer[at : at + 8] = b"%08x" % zlib.crc32(footer)
        os.pwrite(file.fileno(), footer[at : match.end(1)], begin + at)


def checked(path: Path) -> tuple[int, list[int]]:
    """First byte of the footer, and the checksum that each row group should have.

    Raises
    ------
    ValueError
        The footer is not what was written.
    """
    with path.open("rb", buffering=0) as file:
        begin, footer = _footer(file.fileno())
    match = _PATTERN.search(footer)
    if match is None:
        raise ValueError("it has no checksums")
    own, *sums = (int(digits, 16) for digits in match[1].split(b" "))
    footer[match.start(1) : match.start(1) + 8] = b"00000000"
    if zlib.crc32(footer) != own:
        raise ValueError("its checksum does not match")
    return begin, sums


def group_ends(metadata: Any, begin: int) -> list[int]:
    """Byte after each row group; the last one ends where the footer begins."""
    starts = [_group_start(metadata.row_group(i)) for i in range(1, metadata.num_row_groups)]
    return [*starts, begin]


def crc_of(file: int, lo: int, hi: int) -> int:
    """CRC-32 of the bytes [lo, hi) of an open file."""
    value = 0
    for at in range(lo, hi, _BLOCK):
        value = zlib.crc32(os.pread(file, min(_BLOCK, hi - at), at), value)
    return value


def _group_start(group: Any) -> int:
    columns = [group.column(i) for i in range(group.num_columns)]
    pages = [(column.data_page_offset, column.dictionary_page_offset) for column in columns]
    return min(int(at) for pair in pages for at in pair if at)


def _footer(file: int) -> tuple[int, bytearray]:
    size = os.fstat(file).st_size
    tail = os.pread(file, _TAIL, max(size - _TAIL, 0))
    begin = size - _TAIL - int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or begin < 4:
        raise ValueError("it is cut short")
    return begin, bytearray(os.pread(file, size - begin, begin))
