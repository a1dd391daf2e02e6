"""Served probabilities that keep their promise: a monotone map of the score, learned from the stream."""

from nearline.recalibrate._curve import Curve
from nearline.recalibrate._recalibrator import Recalibrator
from nearline.recalibrate._settings import RecalibrationSettings

__all__ = ["Curve", "RecalibrationSettings", "Recalibrator"]
