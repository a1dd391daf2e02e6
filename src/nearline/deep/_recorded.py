"""The columns that a network leaves of every prediction in the ledger, and its gradient sketch in K + 2 bytes.

    network, network_logit, network_norm    16 bytes: which network, its calibrated log-odds, H = √(‖h‖² + 1)
    network_sketch_K                        K signed bytes and a scale (float16): t_k = v_kᵀ[h; 1], when it is asked for

A column has one size: sketches of another length are another column, and rows recorded before stay what they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from nearline.deep._information import Information

Floats = NDArray[np.float64]

NETWORK, LOGIT, NORM, SKETCH = "network", "network_logit", "network_norm", "network_sketch_"
RECORDED = pa.schema({NETWORK: pa.int64(), LOGIT: pa.float32(), NORM: pa.float32()})
_SCALE_BYTES = 2


def sketch_field(k: int) -> Any:
    """The column of sketches of length k.

    >>> str(sketch_field(16))
    'pyarrow.Field<network_sketch_16: fixed_size_binary[18]>'
    """
    return pa.field(f"{SKETCH}{k}", pa.binary(k + _SCALE_BYTES))


def recorded_of(sketch: int = 0) -> Any:
    """Schema of what is recorded, with sketches of a length; 0 is without."""
    return pa.schema([*RECORDED, sketch_field(sketch)]) if sketch else RECORDED


def is_recorded(name: str) -> bool:
    """Whether a column has a name of what is recorded.

    >>> is_recorded("network_sketch_8"), is_recorded("network_size")
    (True, False)
    """
    return name in RECORDED.names or name.startswith(SKETCH)


def sketch_column(information: Information) -> dict[str, Any]:
    """The sketches of n rows as the ledger keeps them, by column name; empty where none was made."""
    if information.codes is None or information.scale is None:
        return {}
    n, k = information.codes.shape
    parts = information.codes.view(np.uint8), information.scale.astype("<f2").view(np.uint8).reshape(n, _SCALE_BYTES)
    field = sketch_field(k)
    data = pa.py_buffer(np.concatenate(parts, axis=1).tobytes())
    return {field.name: pa.FixedSizeBinaryArray.from_buffers(field.type, n, [None, data])}


def sketch_of(column: Any) -> Floats:
    """T (n, K) from a column of sketches; NaN in the rows that have none.

    Examples
    --------
    >>> from nearline.deep._information import Information
    >>> codes, scale = np.array([[127, -64]], np.int8), np.array([0.5], np.float16)
    >>> column = sketch_column(Information(np.zeros(1), np.ones(1), codes, scale, "logit"))["network_sketch_2"]
    >>> sketch_of(pa.chunked_array([column, pa.nulls(1, column.type)])).tolist()
    [[63.5, -32.0], [nan, nan]]
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    width, n = array.type.byte_width, len(array)
    data = np.frombuffer(array.buffers()[1], np.uint8, n * width, array.offset * width).reshape(n, width)
    scale = np.ascontiguousarray(data[:, width - _SCALE_BYTES :]).view("<f2")[:, 0].astype(np.float64)
    scale[array.is_null().to_numpy(zero_copy_only=False) | ~np.isfinite(scale)] = np.nan
    return np.asarray(data[:, : width - _SCALE_BYTES].view(np.int8) * scale[:, None], np.float64)
