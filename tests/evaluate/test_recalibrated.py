"""Recalibrated variants of a backtest: they see no label early, mend what is distorted, and leave alone what is not."""

from __future__ import annotations

import numpy as np
import pytest

from nearline import ConfigError, Fixed, GLMix, Random, Schema, evaluate
from nearline.evaluate import Variant, backtest

SCHEMA = Schema(label="clicked", time="when")


def table(n: int = 12_000, seed: int = 0) -> dict[str, np.ndarray]:
    """Members with a level of their own, over days; from the middle on everything is clicked half as often."""
    rng = np.random.default_rng(seed)
    member = rng.integers(0, 50, n)
    level = rng.normal(0, 1, 50)[member] - np.where(np.arange(n) < n // 2, 0.0, 1.0)
    clicked = (rng.random(n) < 1 / (1 + np.exp(-level))).astype(float)
    return {"member": member, "site": rng.integers(0, 2, n), "clicked": clicked, "when": np.arange(n, dtype=float)}


def model() -> GLMix:
    return GLMix(SCHEMA, Fixed(), [Random("member"), Random("site")])


def test_a_stale_model_is_mended_and_a_fresh_one_left_alone() -> None:
    stale, fresh = Variant("stale", learns="nothing"), Variant("fresh")
    mended = [
        Variant("stale mended", learns="nothing", recalibrate=True),
        Variant("by site", learns="nothing", recalibrate="site"),
        Variant("fresh mended", recalibrate=True),
    ]
    result = backtest(model(), table(), variants=[stale, fresh, *mended], learn_priors=False)
    loss = {row["variant"]: row["log_loss"] for row in result.table()}
    assert loss["stale mended"] < 0.97 * loss["stale"]
    assert loss["by site"] < 0.97 * loss["stale"]
    assert loss["fresh mended"] == pytest.approx(loss["fresh"], rel=0.002)
    ratio = {row["variant"]: row["calibration"] for row in result.table()}
    assert abs(ratio["stale mended"] - 1) < 0.75 * abs(ratio["stale"] - 1)


def test_labels_of_a_batch_are_not_seen_before_it_is_answered() -> None:
    rows = table(4_000)
    variant = [Variant("mended", learns="nothing", recalibrate=True)]
    whole = backtest(model(), rows, variants=variant, learn_priors=False).outcomes[0].margin
    rows["clicked"] = rows["clicked"].copy()
    rows["clicked"][3_000:] = 1 - rows["clicked"][3_000:]
    other = backtest(model(), rows, variants=variant, learn_priors=False).outcomes[0].margin
    same = whole == other
    assert same[: 3_000 - 400].all()
    assert evaluate.log_loss(rows["clicked"][400:], 1 / (1 + np.exp(-other))) > 0


def test_a_key_must_exist_and_the_link_be_logit() -> None:
    with pytest.raises(ConfigError, match="recalibrate = 'film' is no entity key"):
        backtest(model(), table(400), variants=[Variant("x", recalibrate="film")], learn_priors=False)
    counts = GLMix(SCHEMA, Fixed(), [Random("member")], link="log")
    with pytest.raises(ConfigError, match="logit link"):
        backtest(counts, table(400), variants=[Variant("x", recalibrate=True)], learn_priors=False)
