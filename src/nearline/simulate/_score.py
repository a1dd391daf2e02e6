"""How good the best possible prediction is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def bayes(table: pa.Table) -> dict[str, float]:
    """Log loss (nats per event) and AUC of the true probabilities on the outcomes: no model can expect to do better.

    Takes a table of `stream`; AUC is NaN when all outcomes are equal.

    >>> best = bayes(pa.table({"clicked": [0, 1, 0, 1], "true_probability": [0.1, 0.4, 0.4, 0.8]}))
    >>> best["auc"]
    0.875
    """
    y = table["clicked"].to_numpy().astype(np.float64)
    p = table["true_probability"].to_numpy()
    hit = np.where(y == 1, p, 1 - p)
    loss = -np.log(np.maximum(hit, np.finfo(np.float64).tiny))
    # this room lies below `evaluate`, so the two metrics are written out here
    score, code = np.unique(p, return_inverse=True)
    positive = np.bincount(code, weights=y, minlength=len(score))
    negative = np.bincount(code, weights=1 - y, minlength=len(score))
    pairs = positive.sum() * negative.sum()
    won = positive @ (np.cumsum(negative) - negative / 2)
    return {"log_loss": float(loss.mean()), "auc": float(won / pairs) if pairs else float("nan")}
