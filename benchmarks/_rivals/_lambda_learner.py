"""lambda-learner 0.1.0: its sequential Bayesian logistic trainer, one L-BFGS solve per entity, full Hessian.

δ = 1 and an identity Hessian to begin with, so that nothing is forgotten and the prior is N(0, I).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks._report import clock
from benchmarks._rivals._entities import Fitted, Task

Problem = tuple[Any, Any]  # (IndexedDataset, IndexedModel)


def fit(task: Task) -> Fitted:
    """One update per entity.

    The short conversion builds the trainer's sparse matrices from the arrays; the documented one goes through
    name-term-value records and an index map.
    """
    conversion, problems = clock(lambda: _from_arrays(task))
    documented, same = clock(lambda: _from_records(task))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it passes an option that SciPy has deprecated; warning costs time
        update, models = clock(lambda: _train(problems))
    _check_alike(problems[0], same[0])
    theta = np.stack([model.theta for model in models])
    hessian = np.stack([model.hessian.toarray() for model in models])
    return Fitted(theta, hessian, task.x.shape[1], update, conversion, documented)


def _train(problems: Sequence[Problem]) -> list[Any]:
    from linkedin.learner.prediction.hessian_type import HessianType
    from linkedin.learner.prediction.trainer_sequential_bayesian_logistic_loss_with_l2 import (
        TrainerSequentialBayesianLogisticLossWithL2 as Trainer,
    )

    full = HessianType.FULL
    return [
        Trainer(training_data=data, initial_model=model, hessian_type=full, penalty=1.0, delta=1.0).train()[0]
        for data, model in problems
    ]


def _from_arrays(task: Task) -> list[Problem]:
    from linkedin.learner.ds.indexed_dataset import IndexedDataset
    from linkedin.learner.ds.indexed_model import IndexedModel
    from scipy import sparse

    _, n, d = task.x.shape
    weight, offset, signs = np.ones(n), np.zeros(n), 2 * task.label - 1
    return [
        (
            IndexedDataset(sparse.csc_matrix(x), y, weight, offset),
            IndexedModel(np.zeros(d), sparse.identity(d, format="csc")),
        )
        for x, y in zip(task.x, signs)
    ]


def _from_records(task: Task) -> list[Problem]:
    return [_indexed(_records(x, y)) for x, y in zip(task.x.tolist(), task.label.tolist())]


def _records(x: list[list[float]], label: list[float]) -> list[Any]:
    """Records without the intercept, which the index map adds by itself as column 0."""
    from linkedin.learner.ds.feature import Feature
    from linkedin.learner.ds.record import TrainingRecord

    return [
        TrainingRecord(y, 1.0, 0.0, [Feature("x", str(j), value) for j, value in enumerate(row[1:], 1)])
        for row, y in zip(x, label)
    ]


def _indexed(records: list[Any]) -> Problem:
    from linkedin.learner.ds import representation_utils as convert
    from linkedin.learner.ds.index_map import IndexMap

    index, _ = IndexMap.from_records_means_and_variances(records, [], [])
    data = convert.nt_domain_data_to_index_domain_data(records, index)
    return data, convert.nt_domain_coeffs_to_index_domain_coeffs([], [], index, 1.0)


def _check_alike(one: Problem, other: Problem) -> None:
    """Both conversions must give the trainer the same problem, or their times cannot be compared."""
    same = np.array_equal(one[0].X.toarray(), other[0].X.toarray()) and np.array_equal(one[0].y, other[0].y)
    if not (same and np.array_equal(one[1].hessian.toarray(), other[1].hessian.toarray())):
        raise RuntimeError("lambda-learner: the two conversions disagree")
