"""Is a candidate good enough to publish, is what is live good enough to stay, has the world changed? By evidence."""

from nearline._confidence import Bounds, ConfidenceSequence
from nearline._errors import Refused
from nearline.gate._change import ChangeDetector, ChangeSettings
from nearline.gate._detector import Detector
from nearline.gate._evidence import Evidence, Scores
from nearline.gate._guard import Guard, GuardVerdict
from nearline.gate._holdout import HoldOut, held_out
from nearline.gate._publish import Gate, PublishGate
from nearline.gate._publish_settings import PublishSettings
from nearline.gate._settings import GuardSettings
from nearline.gate._verdict import Check, Slice, Verdict

__all__ = [
    "Bounds",
    "ChangeDetector",
    "ChangeSettings",
    "Check",
    "ConfidenceSequence",
    "Detector",
    "Evidence",
    "Gate",
    "Guard",
    "GuardSettings",
    "GuardVerdict",
    "HoldOut",
    "PublishGate",
    "PublishSettings",
    "Refused",
    "Scores",
    "Slice",
    "Verdict",
    "held_out",
]
