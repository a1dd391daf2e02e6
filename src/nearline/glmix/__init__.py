"""The GLMix model: effects, posteriors, batch fit, streaming updates, learned priors, save and load."""

from nearline.glmix._adjust import Adjustment, adjust_priors
from nearline.glmix._certify import Certified, Certifier
from nearline.glmix._correct import Corrections
from nearline.glmix._delta import Delta, Mark, touched_by, union
from nearline.glmix._effects import Fixed, Forgetting, Loadings, Prior, Random
from nearline.glmix._fit._report import BlockFit, Convergence
from nearline.glmix._fit._settings import FixedFit, RandomFit
from nearline.glmix._lag import FixedLag
from nearline.glmix._learned import LearnedEvents
from nearline.glmix._loosen import loosen, weight_left
from nearline.glmix._model import GLMix
from nearline.glmix._offset_shift import cross_curvature, offset_shift
from nearline.glmix._persist import dump_delta, parse_delta
from nearline.glmix._posterior import Coefficient, Contribution
from nearline.glmix._priors import LearnedPriors
from nearline.glmix._replay import Progress
from nearline.glmix._safety import Safety, Surprise
from nearline.glmix._scorer import Draw, Scorer, Scores
from nearline.glmix._stream import Learned
from nearline.glmix._try_learn import Verdicts
from nearline.glmix._update import Updated

__all__ = [
    "Adjustment",
    "BlockFit",
    "Certified",
    "Certifier",
    "Coefficient",
    "Contribution",
    "Convergence",
    "Corrections",
    "Delta",
    "Draw",
    "Fixed",
    "FixedFit",
    "FixedLag",
    "Forgetting",
    "GLMix",
    "Learned",
    "LearnedEvents",
    "LearnedPriors",
    "Loadings",
    "Mark",
    "Prior",
    "Progress",
    "Random",
    "RandomFit",
    "Safety",
    "Scorer",
    "Scores",
    "Surprise",
    "Updated",
    "Verdicts",
    "adjust_priors",
    "cross_curvature",
    "dump_delta",
    "loosen",
    "offset_shift",
    "parse_delta",
    "touched_by",
    "union",
    "weight_left",
]
