"""Is what is live good enough to stay, and has the world changed? Evidence that is valid at every moment."""

from nearline.gate._change import ChangeDetector, ChangeSettings
from nearline.gate._confidence import Bounds, ConfidenceSequence
from nearline.gate._detector import Detector
from nearline.gate._guard import Guard, Verdict
from nearline.gate._settings import GuardSettings

__all__ = [
    "Bounds",
    "ChangeDetector",
    "ChangeSettings",
    "ConfidenceSequence",
    "Detector",
    "Guard",
    "GuardSettings",
    "Verdict",
]
