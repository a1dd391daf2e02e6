"""Parents: a new entity starts from its parent's coefficients (section 5.4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearline import Fixed, GLMix, Prior, Random, Schema


def ads(n: int = 600, seed: int = 0) -> dict[str, Any]:
    """Clicks on 12 ads of 4 campaigns, which differ a lot; the ads of one campaign differ little."""
    rng = np.random.default_rng(seed)
    ad = rng.integers(0, 12, n)
    eta = np.array([2.0, 0.7, -0.7, -2.0])[ad // 3] + 0.2 * rng.normal(size=12)[ad]
    return {"ad": ad, "campaign": ad // 3, "y": (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)}


@pytest.mark.parametrize("mode", ["event", "minibatch", "batch"])
def test_a_new_ad_starts_from_its_campaign(mode: Any) -> None:
    """Section 5.4: β_ad = β_campaign + its own deviation."""
    model = GLMix(Schema("y"), Fixed(), [Random("ad", parent="campaign", prior=Prior(0.5, 0.1))])
    model.fit(ads()) if mode == "batch" else model.partial_fit(ads(), mode=mode)
    new = {"ad": [100, 101, 102, 103], "campaign": [0, 1, 2, 3]}
    z = model.decision_function(new)
    intercept = model.coefficients("fixed")[0].mean
    campaigns = [model.coefficients("campaign", k)[0].mean for k in range(4)]
    np.testing.assert_allclose(z, intercept + np.array(campaigns) + 0.1, atol=1e-12)
    assert (np.diff(z) < -0.4).all()
    # A new ad of a new campaign is nobody's child: the fixed effect and the prior mean, which counts once.
    assert model.decision_function({"ad": [100], "campaign": [9]})[0] == pytest.approx(intercept + 0.1, abs=1e-12)
    flat = GLMix(Schema("y"), Fixed(), [Random("ad", prior=Prior(0.5, 0.1))])
    flat.fit(ads())
    assert np.ptp(flat.decision_function({"ad": [100, 101]})) == 0.0


def test_an_ad_with_much_data_leaves_its_campaign() -> None:
    model = GLMix(Schema("y"), Fixed(), [Random("ad", parent="campaign", prior=Prior(0.5))])
    model.partial_fit(ads())
    row = {"ad": [100], "campaign": [0]}
    before = model.predict_proba(row)[0]
    model.partial_fit({"ad": [100] * 300, "campaign": [0] * 300, "y": [0] * 300})
    assert model.predict_proba(row)[0] < 0.1 < before
    # A sibling hardly follows.
    assert model.predict_proba({"ad": [101], "campaign": [0]})[0] > 0.3


def test_parents_may_have_parents() -> None:
    nested = [Random("ad", parent="campaign"), Random("campaign", parent="advertiser")]
    model = GLMix(Schema("y"), Fixed(), nested)
    data = ads()
    model.partial_fit(data | {"advertiser": data["campaign"] // 2})
    fresh = {"ad": [100, 100], "campaign": [50, 50], "advertiser": [0, 1]}
    z = model.decision_function(fresh)
    assert z[0] > z[1] + 0.5
    own = model.coefficients("fixed")[0].mean + model.coefficients("advertiser", 0)[0].mean
    assert z[0] == pytest.approx(own, abs=1e-12)
