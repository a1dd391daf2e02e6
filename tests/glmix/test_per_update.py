"""A constant δ at every update (Lambda Learner, eq. 4): scoring is no update, so it forgets nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearline import Fixed, Forgetting, GLMix, Numeric, Prior, Random, Schema

DELTA = 0.5
ROWS = {"e": [1, 1], "y": [1.0, 2.0], "t": [0.0, 0.0]}
LATER = {"e": [1], "y": [4.0], "t": [100.0]}


def model(posterior: Any, mode: Any) -> GLMix:
    """One entity, N(0, 1) prior, unit noise."""
    forgetting = Forgetting(form="per_update", delta=DELTA)
    effect = Random("e", prior=Prior(1.0), forgetting=forgetting, posterior=posterior)
    schema = Schema(label="y", time="t", columns={"x": Numeric(center=0.0, scale=1.0)})
    return GLMix(schema, Fixed(intercept=False), [effect], mode=mode, link="identity")


every = pytest.mark.parametrize("posterior", ["full", "diagonal", "lowrank"])


@every
def test_a_score_is_that_of_the_coefficients_as_last_updated(posterior: Any) -> None:
    """N(0, 1) and two rows: θ = Σy / 3 = 1, v = 1/3; at δ = 0.5 it used to be served as ½ H θ / (½ H + ½) = 0.75."""
    served = model(posterior, "minibatch")
    served.partial_fit(ROWS)
    z, s = served._score(LATER, variances=True)
    np.testing.assert_allclose([z[0], s[0]], [1.0, 1 / 3], rtol=1e-12)
    np.testing.assert_allclose(served.sample(LATER, scale=0.0), [[1.0]], rtol=1e-12)
    (term,) = served.explain(LATER)[0]
    np.testing.assert_allclose([term.contribution, term.sd], [1.0, np.sqrt(1 / 3)], rtol=1e-12)


@every
@pytest.mark.parametrize("mode", ["event", "minibatch"])
@pytest.mark.parametrize("every_", [1, 2])
def test_progressive_predicts_before_it_forgets(posterior: Any, mode: Any, every_: int) -> None:
    """The next row is predicted at θ = 1 and learned at δ H: H = ½·3 + ½ + 1 = 3, θ = (½·3·1 + 4) / 3."""
    stream = model(posterior, "minibatch")
    stream.partial_fit(ROWS)
    stream.mode = mode
    two = {name: [*LATER[name], LATER[name][0]] for name in LATER}
    progress = stream.progressive({**two, "e": [1, 2]}, every=every_, variances=True)
    np.testing.assert_allclose(progress.margin, [1.0, 0.0], rtol=1e-12)
    np.testing.assert_allclose(progress.variance, [1 / 3, 1.0], rtol=1e-12)
    after = stream.coefficients("e", 1)[0]
    np.testing.assert_allclose([after.mean, after.sd**2], [5.5 / 3, 1 / 3], rtol=1e-12)


@every
def test_an_event_is_predicted_before_it_forgets(posterior: Any) -> None:
    stream = model(posterior, "event")
    margins = [stream.partial_fit({name: [values[k]] for name, values in ROWS.items()}).margin[0] for k in range(2)]
    # First row: θ = 1/2, H = 2. Second: H = ½·2 + ½ + 1 = 5/2, θ = (½·2·½ + 2) / H = 1.
    np.testing.assert_allclose(margins, [0.0, 0.5], rtol=1e-12)
    np.testing.assert_allclose(stream.decision_function(LATER), [1.0], rtol=1e-12)
