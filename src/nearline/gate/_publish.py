"""The publish gate: whether a candidate is fit to replace what is live."""

from __future__ import annotations

from typing import Protocol

from nearline.gate import _checks as checks
from nearline.gate._evidence import Evidence, Pair, Scores
from nearline.gate._publish_settings import PublishSettings
from nearline.gate._slices import judge_slices, slices
from nearline.gate._verdict import Check, Verdict
from nearline.glmix._links import by_name


class Gate(Protocol):
    """Anything that judges a candidate beside what is live."""

    def check(self, live: Scores, candidate: Scores) -> Verdict:
        """Whether the candidate may be published, and why not."""
        ...


class PublishGate:
    """Judges candidates on examples that neither model had learned when it scored them.

    Symbols: y labels, w weights, p probabilities, ℓ the link's loss, all sums over the examples.

    ================= ============================================== =======================================
    check             what is measured                                refused where
    ================= ============================================== =======================================
    examples          their number                                    below `minimum`
    loss              Σ w (ℓ_candidate − ℓ_live) / Σ w ℓ_live         not shown to be at most `tolerance`
    calibration       Σ w p / Σ w y                                   shown to be outside, farther than live
    calibration_error Σ_b w_b |p̄_b − ȳ_b| / W over ten equal bins     shown to be above, larger than live's
    negative_flips    Σ w [live right, candidate wrong] / Σ w         shown to be above
    slices            the loss check in every slice                   any is shown to be worse (Holm)
    latency, size     as measured outside                             above a multiple of live's
    ================= ============================================== =======================================

    Errors are clustered by entity (`nearline.evaluate.clustered_ratio`). Source of the flips: Yan et al.,
    "Positive-congruent training", CVPR 2021.

    Raises `DataError` from `check` where a margin is missing or not finite, or a label does not suit the link.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=5000)
    >>> evidence = Evidence(rng.random(5000) < 1 / (1 + np.exp(-truth)))
    >>> gate = PublishGate(PublishSettings(negative_flips=0.2), evidence)
    >>> gate.check(live=Scores(0.5 * truth), candidate=Scores(truth)).passed
    True
    >>> for reason in gate.check(live=Scores(truth), candidate=Scores(truth + 0.5)).reasons:
    ...     print(reason.split(":")[0])
    loss
    calibration
    calibration error
    """

    def __init__(self, settings: PublishSettings, evidence: Evidence) -> None:
        self.settings, self.evidence = settings, evidence

    def check(self, live: Scores, candidate: Scores) -> Verdict:
        """Every check, whether or not an earlier one failed; too few examples stand alone."""
        s = self.settings
        pair = Pair.of(by_name(s.link), self.evidence, live, candidate)
        enough = checks.examples(pair, s)
        costs = self._costs(live, candidate)
        if not enough.passed:
            return Verdict.of([enough, *costs])
        judged = judge_slices(pair, s)
        return Verdict.of([enough, *self._quality(pair), *slices(judged, s), *costs], judged)

    def _quality(self, pair: Pair) -> list[Check]:
        of_probabilities = (checks.calibration, checks.calibration_error, checks.negative_flips)
        made = (checks.loss, *(of_probabilities if self.settings.link == "logit" else ()))
        return [check(pair, self.settings) for check in made]

    def _costs(self, live: Scores, candidate: Scores) -> list[Check]:
        s = self.settings
        return [
            *checks.at_most("latency", "s", live.latency, candidate.latency, s.latency_ratio, s.latency_floor),
            *checks.at_most("size", "bytes", live.size, candidate.size, s.size_ratio, s.size_floor),
        ]
