"""How good a model is, and what freshness is worth: metrics, progressive validation, reports."""

from nearline.evaluate._backtest import Backtest, Outcome, Variant, backtest, default_variants
from nearline.evaluate._clustered import Ratio, clustered_ratio, holm, wilson_interval
from nearline.evaluate._grouped import Grouped, grouped
from nearline.evaluate._lift import lift_captured, loss_captured
from nearline.evaluate._losses import brier, log_loss, normalised_entropy, poisson_deviance, poisson_loss, rmse
from nearline.evaluate._named import Named, named
from nearline.evaluate._ranking import auc, grouped_auc, pr_auc
from nearline.evaluate._reliability import Reliability, calibration_ratio, expected_calibration_error, reliability
from nearline.evaluate._resample import Interval, bootstrap_interval, windowed
from nearline.evaluate._staleness import Staleness, age_of_entity, age_of_model, staleness_curve
from nearline.evaluate._top_k import ndcg_at_k, precision_at_k, recall_at_k

__all__ = [
    "Backtest",
    "Grouped",
    "Interval",
    "Named",
    "Outcome",
    "Ratio",
    "Reliability",
    "Staleness",
    "Variant",
    "age_of_entity",
    "age_of_model",
    "auc",
    "backtest",
    "bootstrap_interval",
    "brier",
    "calibration_ratio",
    "clustered_ratio",
    "default_variants",
    "expected_calibration_error",
    "grouped",
    "grouped_auc",
    "holm",
    "lift_captured",
    "log_loss",
    "loss_captured",
    "named",
    "ndcg_at_k",
    "normalised_entropy",
    "poisson_deviance",
    "poisson_loss",
    "pr_auc",
    "precision_at_k",
    "recall_at_k",
    "reliability",
    "rmse",
    "staleness_curve",
    "wilson_interval",
    "windowed",
]
