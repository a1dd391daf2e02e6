"""Rows as they are served where a network is the fixed effect: one forward pass per request, and what it recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from nearline._errors import DataError
from nearline.deep._network_glmix import NetworkGLMix
from nearline.deep._recorded import LOGIT, NETWORK, NORM, recorded_of, sketch_column
from nearline.features import Design, RowEncoder
from nearline.features._row_reader import RowReader
from nearline.features._row_types import fields, row_type
from nearline.glmix import GLMix


def rows_of(model: GLMix, sketch: int = 0) -> RowEncoder:
    """The encoder of a served model's rows; a network's rows may come with a gradient sketch of so many numbers."""
    return NetworkRows(model, sketch) if isinstance(model, NetworkGLMix) else RowEncoder(model.encoder)


class NetworkRows(RowEncoder):
    """From decoded rows to a `Design` with the network's log-odds in its offset, and the columns that are recorded.

    Columns of both parts are read: those of the effects, as `RowEncoder` does, and those of the network.

    Parameters
    ----------
    sketch
        Length K of the gradient sketch that is recorded, K + 2 bytes per row; 0 records none.

    Attributes
    ----------
    arrow
        Keys, features of both parts, `RECORDED`, and the sketch where there is one.
    """

    def __init__(self, model: NetworkGLMix, sketch: int = 0) -> None:
        super().__init__(model.encoder)
        self._model, self._sketch = model, sketch
        self._parts = RowEncoder(model.encoder), RowEncoder(model.network.encoder)
        found = {field.name: field for part in reversed(self._parts) for field in fields(part.encoder, part.families)}
        self.Row, self.names = row_type(list(found.values())), tuple(found)
        seen = {field.name: field for part in reversed(self._parts) for field in part.arrow}
        self.arrow = pa.schema([*seen.values(), *recorded_of(sketch)])

    def read(self, bodies: Sequence[bytes], now: float = 0.0, most: int = 0) -> None:
        """None: every request is decoded, since the network needs its columns."""
        return None

    def warm(self) -> RowReader:
        """Nothing of what `read` needs is needed; that of the effects alone is returned."""
        return self._parts[0].warm()

    def encode(self, rows: Sequence[Any], now: float = 0.0) -> tuple[Design, dict[str, Any]]:
        """As `RowEncoder.encode`; one forward pass."""
        lists: Any = zip(*map(msgspec.structs.astuple, rows)) if rows else ([] for _ in self.names)
        given = dict(zip(self.names, map(list, lists)))
        return self._joined(*(
            part._encode({name: given[name] for name in part.names}, len(rows), now) for part in self._parts
        ))  # fmt: skip

    def encode_table(self, table: Any, now: float = 0.0) -> tuple[Design, dict[str, Any]]:
        """As `RowEncoder.encode_table`; one forward pass."""
        extra = [name for name in table.column_names if name not in self.names]
        if extra:
            raise DataError("the model reads no such column", column=extra[0], fix=f"send {list(self.names)}")
        return self._joined(*(
            part.encode_table(table.select([name for name in table.column_names if name in part.names]), now)
            for part in self._parts
        ))  # fmt: skip

    def _joined(
        self, effects: tuple[Design, dict[str, Any]], network: tuple[Design, dict[str, Any]]
    ) -> tuple[Design, dict[str, Any]]:
        design, columns = effects
        inputs, more = network
        logit, norm = np.zeros(design.rows), np.ones(design.rows)
        recorded: dict[str, Any] = {}
        if design.rows:
            information = self._model.network.information(inputs, sketch=self._sketch)
            logit, norm = self._model.log_odds(information.logit - inputs.offset), information.norm
            recorded |= sketch_column(information)
        recorded |= {NETWORK: self._model.identity, LOGIT: logit.astype(np.float32), NORM: norm.astype(np.float32)}
        return replace(design, offset=design.offset + logit), more | columns | recorded
