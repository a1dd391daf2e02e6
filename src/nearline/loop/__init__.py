"""The live loop: serve, record, join, learn and publish, in one process over one directory."""

from nearline.loop._audit import Audit, audit, replay
from nearline.loop._candidate import Cutoff, judge
from nearline.loop._compare import compare
from nearline.loop._loop import Loop
from nearline.loop._settings import Pace, Recording
from nearline.loop._trial import Cost, Gating

__all__ = [
    "Audit", "Cost", "Cutoff", "Gating", "Loop", "Pace", "Recording", "audit", "compare", "judge", "replay",
]  # fmt: skip
