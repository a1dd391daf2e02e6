"""Predictions ⨝ outcomes: attribution windows, and late, repeated, corrected and retracted labels by name."""

from nearline.join._pages import PAGE_BYTES
from nearline.join._policy import Policy
from nearline.join._records import KINDS, Action, Joined, Kind, Outcomes, Reason, Status
from nearline.join._state import Changes, State
from nearline.join._step import step

__all__ = [
    "KINDS",
    "PAGE_BYTES",
    "Action",
    "Changes",
    "Joined",
    "Kind",
    "Outcomes",
    "Policy",
    "Reason",
    "State",
    "Status",
    "step",
]
