"""Is what is live good enough to stay? Evidence that is valid at every moment, and the guard that rolls back on it."""

from nearline.gate._confidence import Bounds, ConfidenceSequence
from nearline.gate._detector import Detector
from nearline.gate._guard import Guard, Verdict
from nearline.gate._settings import GuardSettings

__all__ = ["Bounds", "ConfidenceSequence", "Detector", "Guard", "GuardSettings", "Verdict"]
