"""The usual answers of /predict as bytes, with no object per prediction.

msgspec writes the numbers, in one call; compiled code sets them between texts that are the same for every prediction.
So the bytes are those that msgspec gives for the typed answer (a tested property).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

_encode = msgspec.json.Encoder().encode
_PAD = bytes(8)
_DIGITS = 20


class AnswerWriter:
    """Writes predictions of a model, whose version moves on while it learns; `name` is "probability" or "prediction".

    Examples
    --------
    >>> AnswerWriter("probability").write("abcdefgh", 7, np.array([0.5, 0.25]), [1, 2], "1.0.0")[1]
    b'{"predictions":[{"prediction_id":"abcdefgh-8","probability":0.25,"version":"1.0.0"}]}'
    """

    def __init__(self, name: str) -> None:
        self._middle = _text(b'","' + name.encode() + b'":')
        self._version, self._tail = "", _tail("")
        self._tag, self._head = "", _head("")

    def write(
        self, tag: str, first: int, values: NDArray[np.float64], ends: Sequence[int], version: str
    ) -> list[bytes]:
        """Answers for values of a version whose ids are `tag`-`first` and on; where those of each answer end."""
        from nearline.serve._splice import splice

        if tag != self._tag:
            self._tag, self._head = tag, _head(tag)
        if version != self._version:
            self._version, self._tail = version, _tail(version)
        numbers, n = np.frombuffer(_encode(values.tolist()) + _PAD, np.uint8), len(values)
        fixed = len(self._head) + len(self._middle) + len(self._tail) + _DIGITS
        out = np.empty(n * fixed + len(numbers) + len(ends) * (len(_OPENING) + len(_CLOSING)) + 8, np.uint8)
        stops = np.array(ends, np.int64)
        splice(numbers, _OPENING, self._head, self._middle, self._tail, _CLOSING, first, stops, out)
        data, cuts = out.tobytes(), stops.tolist()
        return [data[begin:end] for begin, end in zip([0, *cuts], cuts)]


def tag_of(name: str, position: int) -> str | None:
    """The tag of a prediction's id; None where an id is no tag and position.

    >>> tag_of("abcdefgh-7", 7), tag_of("seven", 7)
    ('abcdefgh', None)
    """
    tag, dash, number = name.rpartition("-")
    return tag if dash and number == str(position) else None


def _head(tag: str) -> NDArray[Any]:
    return _text(b',{"prediction_id":' + _encode(tag + "-")[:-1])


def _tail(version: str) -> NDArray[Any]:
    return _text(b',"version":' + _encode(version) + b"}")


def _text(data: bytes) -> NDArray[Any]:
    return np.frombuffer(data + _PAD, np.uint8)


_OPENING, _CLOSING = _text(b'{"predictions":['), _text(b"]}")
