"""The reference measurements that the experiments are held against: how much of a batch refit's lift each rule keeps.

Made with a plain NumPy prototype of the same recipes, but for `LADDER` and `NEURAL_LADDER`, which are published; lifts
in per cent of the batch refit's.
"""

from __future__ import annotations

RULES = ("stale", "full 1", "full .95", "full .8", "diag 1", "diag .95", "diag .8")
"""Order of the columns of `SIMULATION`."""

SIMULATION: dict[tuple[float, bool], tuple[float, ...]] = {
    (0.0, False): (55.1, 100.0, 99.7, 96.2, 99.6, 99.5, 96.5),
    (0.5, False): (64.1, 100.0, 99.7, 96.3, 98.3, 98.5, 96.4),
    (0.9, False): (82.0, 100.0, 99.9, 97.7, 97.0, 96.9, 95.6),
    (0.0, True): (31.4, 101.1, 104.7, 108.2, 100.0, 103.9, 108.3),
    (0.5, True): (37.8, 101.3, 105.0, 108.6, 102.4, 105.6, 109.5),
    (0.9, True): (49.2, 101.8, 105.9, 111.4, 109.8, 111.5, 113.0),
}
"""Lift by correlation ρ and drift: means of five seeds."""

SIMULATION_SD: dict[tuple[float, bool], tuple[float, ...]] = {
    (0.0, False): (0.5, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2),
    (0.5, False): (1.0, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2),
    (0.9, False): (0.8, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2),
    (0.0, True): (0.7, 0.2, 0.2, 0.4, 0.2, 0.2, 0.4),
    (0.5, True): (2.8, 0.2, 0.2, 0.6, 0.5, 0.6, 0.7),
    (0.9, True): (3.4, 0.2, 0.4, 0.8, 1.2, 1.2, 1.1),
}
"""Their standard deviations over seeds; 0.2 stands for "at most 0.2"."""

DRIFTING: dict[float, float] = {0.0: 109.0, 0.5: 110.9, 0.9: 114.6}
"""Lift of additive drift at q = .02 by ρ, under drift, one seed."""

BY_MOVIE: dict[int, dict[str, float]] = {
    10: {
        "fixed": 0.6050, "stale": 0.6816, "last window": 0.6517, "refit": 0.6896, "full 1": 0.6893, "full .95": 0.6905,
        "full .8": 0.6911, "diag 1": 0.6871, "diag .95": 0.6877, "diag .8": 0.6865,
    },
    50: {
        "fixed": 0.6050, "stale": 0.6816, "last window": 0.6283, "refit": 0.6905, "full 1": 0.6901, "full .95": 0.6930,
        "full .8": 0.6854, "diag 1": 0.6879, "diag .95": 0.6889, "diag .8": 0.6781,
    },
}  # fmt: skip
"""AUC on MovieLens-100k by movie, λ = 1, by number of mini-batches."""

BY_LAMBDA: dict[float, dict[str, float]] = {
    1.0: {"refit": 0.6899, "full 1": 0.6895, "full .95": 0.6916, "diag 1": 0.6873, "stale": 0.6816},
    3.0: {"refit": 0.6994, "full 1": 0.6993, "full .95": 0.7001, "diag 1": 0.6978, "stale": 0.6920},
    10.0: {"refit": 0.7004, "full 1": 0.7003, "full .95": 0.6991, "diag 1": 0.7000, "stale": 0.6929},
    30.0: {"refit": 0.6911, "full 1": 0.6911, "full .95": 0.6867, "diag 1": 0.6918, "stale": 0.6820},
}
"""AUC on MovieLens-100k by movie, 20 mini-batches, by λ."""

LEARNED_PRIOR: dict[str, tuple[float, float]] = {
    "scalar": (0.7011, 0.6289), "diagonal": (0.7019, 0.6285), "full": (0.7016, 0.6279)
}  # fmt: skip
"""(AUC, log loss) on MovieLens-100k by movie, 20 mini-batches, prior learned on the first half."""

ALL_BLOCKS: dict[int, dict[str, float]] = {
    10: {
        "fixed": 0.5938, "stale": 0.6975, "A, movie": 0.7050, "A, user and movie": 0.7089, "B full, 1 cycle": 0.7091,
        "B full, 3 cycles": 0.7102, "B diagonal, 3 cycles": 0.7092, "refit": 0.7116,
    },
    50: {
        "fixed": 0.5938, "stale": 0.6975, "A, movie": 0.7059, "A, user and movie": 0.7174, "B full, 1 cycle": 0.7186,
        "B full, 3 cycles": 0.7185, "B diagonal, 3 cycles": 0.7181, "refit": 0.7211,
    },
}  # fmt: skip
"""AUC on MovieLens-100k with fixed, user and movie blocks, λ = 10, by number of mini-batches."""

LADDER = (0.6237, 0.7058, 0.7599)
"""GDMix on MovieLens-100k: AUC of the global model, with users, with users and movies."""

NEURAL_LADDER = (0.7090, 0.7665, 0.7680)
"""The same with a neural global model."""
