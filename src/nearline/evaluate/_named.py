"""Metrics by name, as `[backtest] metrics` asks for them: `"brier"`, `"auc by user_id"`, `"ndcg@10 by user_id"`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.evaluate import _losses, _ranking, _reliability, _top_k
from nearline.evaluate._grouped import Grouped, grouped
from nearline.evaluate._resample import Interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Metric = Callable[[Floats, Floats, Floats], float]
Listed = Callable[[Floats, Floats, Ints, int, Floats], Grouped]


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a metric is written, whether higher is better, the links that it is for, and what it is."""

    label: str
    higher: bool
    links: tuple[str, ...]
    metric: Metric


def _calibration_error(y: Floats, p: Floats, w: Floats) -> float:
    return _reliability.expected_calibration_error(y, p, weight=w, strategy="quantile")


_LOGIT, _ANY = ("logit",), ("logit", "identity", "log")
_KINDS = {
    "log_loss": _Kind("log loss", False, _LOGIT, _losses.log_loss),
    "brier": _Kind("Brier score", False, _LOGIT, _losses.brier),
    "normalised_entropy": _Kind("normalised entropy", False, _LOGIT, _losses.normalised_entropy),
    "auc": _Kind("AUC", True, _LOGIT, _ranking.auc),
    "pr_auc": _Kind("PR-AUC", True, _LOGIT, _ranking.pr_auc),
    "calibration_error": _Kind("calibration error", False, _LOGIT, _calibration_error),
    "rmse": _Kind("RMSE", False, _ANY, _losses.rmse),
    "poisson_deviance": _Kind("Poisson deviance", False, ("log",), _losses.poisson_deviance),
    "poisson_loss": _Kind("Poisson loss", False, ("log",), _losses.poisson_loss),
}
_LISTED: dict[str, tuple[str, tuple[str, ...], Listed]] = {
    "precision": ("precision", _LOGIT, _top_k.precision_at_k),
    "recall": ("recall", _LOGIT, _top_k.recall_at_k),
    "ndcg": ("NDCG", ("logit", "log"), _top_k.ndcg_at_k),
}
_FORM = re.compile(r"(?P<name>[a-z_]+)(?:@(?P<k>[1-9]\d*))?(?: by (?P<key>.+))?")


@dataclass(frozen=True, slots=True)
class Named:
    """A metric that was asked for.

    Attributes
    ----------
    name, label, higher
        As it was asked for, how it is written, and whether higher is better.

    Examples
    --------
    >>> found = named("precision@1 by user_id", "logit", ["user_id"])
    >>> codes = {"user_id": np.repeat(np.arange(20, dtype=np.int32), 2)}
    >>> y, p = np.tile([1.0, 0.0], 20), np.tile([0.9, 0.1], 20)
    >>> found.label, found.value(y, p, np.ones(40), codes).estimate
    ('precision@1 by user_id', 1.0)
    """

    name: str
    label: str
    higher: bool
    _of: Callable[[Floats, Floats, Floats, Ints], Grouped] | Metric
    _key: str | None

    def value(self, y: Floats, p: Floats, w: Floats, entities: Mapping[str, Ints]) -> Interval:
        """The metric; its interval where it is a mean over entities, NaN ends otherwise."""
        if self._key is None:
            return Interval(self._of(y, p, w), math.nan, math.nan)  # type: ignore[call-arg, arg-type]
        codes = entities[self._key]
        known = codes >= 0
        return self._of(y[known], p[known], w[known], codes[known]).mean()  # type: ignore[call-arg, union-attr]


def named(text: str, link: str, keys: Collection[str]) -> Named:
    """The metric of a name: `metric`, `metric by key`, or `precision@k`, `recall@k` and `ndcg@k`, always by a key.

    Raises
    ------
    ConfigError
        No such metric, one that is not for this link, or a key that the model does not have.
    """
    found = _FORM.fullmatch(text.strip())
    name, k, key = (found["name"], found["k"], found["key"]) if found else (text, None, None)
    if key is not None and key not in keys:
        raise ConfigError(f"metric {text!r}: {key!r} is no entity key of the model; it is one of {sorted(keys)}")
    if name in _LISTED and k is not None and key is not None:
        return _listed(text, name, int(k), key, link)
    kind = _KINDS.get(name)
    if kind is None or k is not None or link not in kind.links:
        raise ConfigError(f"there is no metric {text!r} for the {link} link; {_choices(link)}")
    if key is None:
        return Named(text, kind.label, kind.higher, kind.metric, None)
    return Named(text, f"{kind.label} by {key}", kind.higher, _by_entity(name, kind.metric), key)


def _listed(text: str, name: str, k: int, key: str, link: str) -> Named:
    label, links, metric = _LISTED[name]
    if link not in links:
        raise ConfigError(f"there is no metric {text!r} for the {link} link; {_choices(link)}")
    return Named(text, f"{label}@{k} by {key}", True, lambda y, p, w, codes: metric(y, p, codes, k, w), key)


def _by_entity(name: str, metric: Metric) -> Callable[[Floats, Floats, Floats, Ints], Grouped]:
    if name == "auc":  # the one with a sort for all entities at once
        return lambda y, p, w, codes: Grouped(*_ranking.entity_auc(y, p, codes, w))
    return lambda y, p, w, codes: grouped(metric, y, p, codes, w)


def _choices(link: str) -> str:
    plain = [name for name, kind in _KINDS.items() if link in kind.links]
    lists = [f"{name}@k by KEY" for name, (_, links, _) in _LISTED.items() if link in links]
    return f"it is one of {', '.join([*plain, *lists])}, and each of the first ones also 'by KEY'"
