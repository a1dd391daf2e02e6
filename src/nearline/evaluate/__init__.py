"""How good a model is, and what freshness is worth: metrics, progressive validation, reports."""

from nearline.evaluate._backtest import Backtest, Outcome, Variant, backtest, default_variants
from nearline.evaluate._clustered import Ratio, clustered_ratio, holm, wilson_interval
from nearline.evaluate._metrics import (
    auc,
    bootstrap_interval,
    brier,
    calibration_ratio,
    expected_calibration_error,
    grouped_auc,
    lift_captured,
    log_loss,
    normalised_entropy,
    poisson_deviance,
    pr_auc,
    reliability,
    rmse,
    windowed,
)

__all__ = [
    "Backtest",
    "Outcome",
    "Ratio",
    "Variant",
    "auc",
    "backtest",
    "bootstrap_interval",
    "brier",
    "calibration_ratio",
    "clustered_ratio",
    "default_variants",
    "expected_calibration_error",
    "grouped_auc",
    "holm",
    "lift_captured",
    "log_loss",
    "normalised_entropy",
    "poisson_deviance",
    "pr_auc",
    "reliability",
    "rmse",
    "wilson_interval",
    "windowed",
]
