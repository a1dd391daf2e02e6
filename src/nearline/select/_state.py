"""What a selector remembers from one window to the next: named arrays that are passed in and returned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from nearline.select._scores import Floats


@dataclass(frozen=True, eq=False)
class SelectorState:
    """Named float arrays; an empty one is the start. Never changed in place.

    Examples
    --------
    >>> state = SelectorState().put(tau=[1.5])
    >>> SelectorState.from_json(state.to_json()) == state
    True
    """

    arrays: Mapping[str, Floats] = field(default_factory=lambda: MappingProxyType({}))

    def get(self, name: str, default: Any = ()) -> Floats:
        """The array called `name`, or `default` where there is none yet."""
        return self.arrays[name] if name in self.arrays else np.asarray(default, dtype=np.float64)

    def put(self, **arrays: Any) -> SelectorState:
        """The same with these arrays replaced."""
        new = {name: np.array(value, dtype=np.float64, ndmin=1) for name, value in arrays.items()}
        return SelectorState(MappingProxyType({**self.arrays, **new}))

    def to_json(self) -> str:
        """As text; floats return with the same bits."""
        return json.dumps({name: value.tolist() for name, value in sorted(self.arrays.items())})

    @classmethod
    def from_json(cls, text: str) -> SelectorState:
        """What `to_json` wrote."""
        return cls().put(**json.loads(text))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SelectorState) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __reduce__(self) -> tuple[Any, ...]:
        return SelectorState.from_json, (self.to_json(),)
