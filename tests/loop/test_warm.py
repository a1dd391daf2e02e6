"""Warming: everything that learning calls is run once, and nothing of the model moves."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pyarrow as pa
import pytest

from nearline import Fixed, GLMix, Random, Schema
from nearline.glmix import Safety
from nearline.loop._warm import warm

TAKEN = {
    "prediction_id": ["a-1", "a-2", "a-3"], "time": [1.0, 2.0, 3.0], "user": [1, 1, 2], "ad": [7, 8, 7],
    "price": [1.0, None, 3.0],
}  # fmt: skip


@pytest.mark.parametrize("link", ["logit", "identity", "log"])
def test_the_model_stays_as_it_is(link: str) -> None:
    model = GLMix(Schema(label="y"), Fixed("price"), [Random("user", on=["price"]), Random("ad")], link=link)
    model.partial_fit({"user": [1, 2], "ad": [7, 8], "price": [1.0, 2.0], "y": [1.0, 0.0]})
    before = [deepcopy((block.mean, block.cov, block.counts)) for block in model.blocks]
    warm(model, Safety(), pa.table(TAKEN))
    assert model.events_learned == 2
    for arrays, block in zip(before, model.blocks):
        for then, now in zip(arrays, (block.mean, block.cov, block.counts)):
            np.testing.assert_array_equal(then, now)


def test_no_rows_are_nothing_to_do() -> None:
    model = GLMix(Schema(label="y"), Fixed("price"), [Random("user")])
    warm(model, Safety(), pa.table(TAKEN).slice(0, 0))
    assert model.events_learned == 0
