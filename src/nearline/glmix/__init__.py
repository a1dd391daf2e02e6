"""The GLMix model: effects, posteriors, batch fit, streaming updates, learned priors, save and load."""

from nearline.glmix._batch import Convergence
from nearline.glmix._effects import Fixed, Forgetting, Loadings, Prior, Random
from nearline.glmix._model import GLMix, Learned
from nearline.glmix._posterior import Coefficient, Contribution
from nearline.glmix._priors import LearnedPriors
from nearline.glmix._replay import Progress

__all__ = [
    "Coefficient",
    "Contribution",
    "Convergence",
    "Fixed",
    "Forgetting",
    "GLMix",
    "Learned",
    "LearnedPriors",
    "Loadings",
    "Prior",
    "Progress",
    "Random",
]
