"""A small search on the first tenth of the stream, kept in a JSON file named by a hash of its own definition."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks._rivals._events import Events
from benchmarks._rivals._vw import OUT

Config = dict[str, Any]


def ranked(
    name: str, grid: Sequence[Config], tenth: Events, judge: Callable[[Config], float]
) -> list[tuple[Config, float]]:
    """Every configuration of `grid` with its progressive log loss `judge(config)` on `tenth`, best first.

    A loss that is not a number ranks last.
    """
    text = json.dumps([name, tenth.digest, len(tenth), list(grid)], sort_keys=True)
    path = OUT / f"{name}-search-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}.json"
    if not path.exists():
        losses = [(config, loss if math.isfinite(loss := judge(config)) else 1e9) for config in grid]
        OUT.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(sorted(losses, key=lambda pair: pair[1]), indent=1))
    return [(config, loss) for config, loss in json.loads(path.read_text())]
