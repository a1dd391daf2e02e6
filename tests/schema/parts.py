"""A check with a label and nothing else, and the numbers that are none."""

from __future__ import annotations

import math
from typing import Any

from nearline.schema import Checked, Schema, check

NAN, INF = math.nan, math.inf


def run(data: Any, schema: Schema | None = None, **options: Any) -> Checked:
    """Check `data` with a label y and nothing else, unless told."""
    defaults: dict[str, Any] = {"features": (), "keys": (), "link": "logit", "need_label": True}
    return check(data, schema or Schema("y"), **{**defaults, **options})
