"""The live loop: serve, record, join, learn and publish, in one process over one directory."""

from nearline.loop._audit import Audit, audit, replay
from nearline.loop._candidate import Cutoff, judge, judge_held_out
from nearline.loop._compare import compare
from nearline.loop._history import Committed, History
from nearline.loop._judged import forced, judged
from nearline.loop._loop import Loop
from nearline.loop._offered import Offered
from nearline.loop._refit import Refitted, refit
from nearline.loop._selection_log import Choice, SelectionLog
from nearline.loop._settings import Pace, Recording
from nearline.loop._train import Trainee, Training, following, quality, summary, train
from nearline.loop._trial import Cost, Gating
from nearline.loop._unfinished import Unfinished, was_left

__all__ = [
    "Audit",
    "Choice",
    "Committed",
    "Cost",
    "Cutoff",
    "Gating",
    "History",
    "Loop",
    "Offered",
    "Pace",
    "Recording",
    "Refitted",
    "SelectionLog",
    "Trainee",
    "Training",
    "Unfinished",
    "audit",
    "compare",
    "following",
    "forced",
    "judge",
    "judge_held_out",
    "judged",
    "quality",
    "refit",
    "replay",
    "summary",
    "train",
    "was_left",
]
