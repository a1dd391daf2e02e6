"""The live loop: serve, record, join, learn and publish, in one process over one directory."""

from nearline.loop._audit import Audit, audit, replay
from nearline.loop._compare import compare
from nearline.loop._loop import Loop
from nearline.loop._settings import Pace, Recording

__all__ = ["Audit", "Loop", "Pace", "Recording", "audit", "compare", "replay"]
