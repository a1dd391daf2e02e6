"""The hold-out: which records no retraining may ever learn from, decided by the records alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import ConfigError, DataError

_SPACE = 2.0**64


def held_out(fields: Mapping[str, Any], share: float = 0.01, salt: str = "") -> NDArray[np.bool_]:
    """Which rows are held out: those with h(fields) < share, h a hash in [0, 1).

    A pure function of a row's own fields: no state, no randomness, no order. So the same record lies on the same
    side in every retraining, on every machine, and a larger share holds out the same rows and more. Rows that share
    their fields go together: hashing `user_id` holds out users, hashing `user_id` and `item_id` holds out pairs.

    Parameters
    ----------
    fields
        Name and values (n) of each field, arrays or Arrow columns of numbers or text; the order of the names does not
        matter. Numbers count by what they are: 7, 7.0 and "7" are one.
    share
        Of the values of the fields, in [0, 1].
    salt
        Another salt is another hold-out.

    Raises
    ------
    ConfigError
        No field is named, or the share lies outside [0, 1].
    DataError
        Fields of different lengths.

    Examples
    --------
    >>> ids = np.arange(100_000)
    >>> held = held_out({"user_id": ids}, share=0.01)
    >>> int(held.sum())
    1018
    >>> bool((held_out({"user_id": ids[::-1]}, share=0.02)[::-1] >= held).all())
    True
    """
    if not fields or not 0 <= share <= 1:
        raise ConfigError(f"held_out needs a field and a share in [0, 1]; got {sorted(fields)} and {share}")
    names = sorted(fields)
    columns = [_words(fields[name]) for name in names]
    if len({len(codes) for codes, _ in columns}) > 1:
        raise DataError(f"the fields {names} differ in length", fix="pass one value per row in each")
    rows, places = np.unique(np.stack([codes for codes, _ in columns], axis=1), axis=0, return_inverse=True)
    start = blake2b("\x1f".join([salt, *names]).encode(), digest_size=8)
    hashes = np.array([_hash(start, [words[k] for k, (_, words) in zip(row, columns)]) for row in rows.tolist()])
    return np.asarray(hashes.reshape(-1)[places.reshape(-1)] < share, dtype=bool)


@dataclass(frozen=True, slots=True)
class HoldOut:
    """A hold-out by the columns of a table.

    Parameters
    ----------
    fields
        Columns whose values decide, of whatever table: history, or the recorded predictions.
    share
        Of their values.

    Raises `ConfigError` without fields, or for a share outside (0, 1).

    >>> HoldOut(("user_id",), share=0.5).of(pa.table({"user_id": ["ann", "bob", "cy", "di"]})).tolist()
    [True, True, True, False]
    """

    fields: tuple[str, ...]
    share: float = 0.01

    def __post_init__(self) -> None:
        if not self.fields or not 0 < self.share < 1:
            raise ConfigError(f"a hold-out needs columns and a share between 0 and 1; got {self.fields}, {self.share}")

    def of(self, table: Any) -> NDArray[np.bool_]:
        """Which rows of a table are held out. Raises `ConfigError` where it lacks a column."""
        missing = sorted(set(self.fields) - set(table.column_names))
        if missing:
            raise ConfigError(
                f"the hold-out is by {missing}, which the table does not have; it has {table.column_names}"
            )
        return held_out({name: table.column(name) for name in self.fields}, self.share)

    def train(self, table: Any) -> Any:
        """The rows of a table that may be learned."""
        return table.filter(pa.array(~self.of(table)))


def _hash(start: Any, words: list[str]) -> float:
    digest = start.copy()
    # the length in front keeps ("ab", "c") and ("a", "bc") apart
    digest.update("".join(f"\x1e{len(word)}:{word}" for word in words).encode())
    return int.from_bytes(digest.digest(), "little") / _SPACE


def _words(values: Any) -> tuple[NDArray[np.int64], list[str]]:
    """Codes (n) and the text of each code; equal texts may have several codes."""
    column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(np.asarray(values))
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    found = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    texts = ["" if value is None else _text(value) for value in found.dictionary.to_pylist()]
    codes = np.asarray(found.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False), np.int64)
    return codes, [*texts, ""]


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
