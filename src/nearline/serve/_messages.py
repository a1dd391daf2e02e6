"""What requests and answers look like, as typed structs: decoding refuses what does not fit and names the field."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

Scale = Annotated[float, msgspec.Meta(ge=0.0, le=1e6)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class Sample(msgspec.Struct, forbid_unknown_fields=True):
    """A Thompson draw: scale of the posterior's covariance, seed, and joint draws behind the propensity."""

    scale: Scale = 1.0
    seed: Seed | None = None
    draws: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 256


def predict_request(row: type[msgspec.Struct], most: int) -> type[msgspec.Struct]:
    """Type of the body of /predict for one type of rows."""
    rows = Annotated[list[row], msgspec.Meta(max_length=most)]  # type: ignore[valid-type]
    return msgspec.defstruct(
        "PredictRequest",
        [("rows", rows), ("sample", bool | Sample, False), ("explain", bool, False)],
        forbid_unknown_fields=True,
    )


class Contribution(msgspec.Struct):
    """One term of a score, on the link scale: effect, entity, feature and its value, contribution and its sd."""

    effect: str
    entity: Any
    feature: str
    value: float
    contribution: float
    sd: float


class Probability(msgspec.Struct, gc=False):
    """A scored row of a model with the logit link."""

    prediction_id: str
    probability: float
    version: str


class Expectation(msgspec.Struct, gc=False):
    """A scored row of a model with another link."""

    prediction_id: str
    prediction: float
    version: str


class FullProbability(Probability, omit_defaults=True):
    """With what a request asked for beyond the score."""

    propensity: float | None = None
    sampled_probability: float | None = None
    explanation: list[Contribution] | None = None


class FullExpectation(Expectation, omit_defaults=True):
    """With what a request asked for beyond the score."""

    propensity: float | None = None
    sampled_prediction: float | None = None
    explanation: list[Contribution] | None = None


class Predictions(msgspec.Struct):
    """Answer of /predict: one prediction per row, in order."""

    predictions: list[Any]


class Outcome(msgspec.Struct, forbid_unknown_fields=True):
    """What happened after a prediction; a retraction has no label."""

    prediction_id: Annotated[str, msgspec.Meta(max_length=200)]
    label: float | bool | None = None
    time: float | datetime | None = None
    kind: Literal["outcome", "correct", "retract"] = "outcome"


def outcomes_request(most: int) -> type[msgspec.Struct]:
    """Type of the body of /outcome with several outcomes."""
    outcomes = Annotated[list[Outcome], msgspec.Meta(max_length=most)]
    return msgspec.defstruct("Outcomes", [("outcomes", outcomes)], forbid_unknown_fields=True)


class Rejected(msgspec.Struct):
    """An outcome that was not accepted, by its place in the request."""

    index: int
    prediction_id: str
    reason: str


class Accepted(msgspec.Struct):
    """Answer of /outcome, once the accepted outcomes are durable."""

    accepted: int
    rejected: list[Rejected]


class Publish(msgspec.Struct, forbid_unknown_fields=True):
    """Which version to make the live one, and why; `force` even if the gate refuses it."""

    version: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    why: Text
    force: bool = False


class Rollback(msgspec.Struct, forbid_unknown_fields=True):
    """Why to roll back, and to which version: the one before the live one by default."""

    why: Text
    to: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None


class Judged(msgspec.Struct):
    """What the gate says of a version: why it refuses it or was not asked, and what it found check by check."""

    verdict: Literal["passed", "refused", "not judged"]
    reasons: list[str] = msgspec.field(default_factory=list)
    checks: dict[str, str] = msgspec.field(default_factory=dict)


class Published(msgspec.Struct, omit_defaults=True):
    """The version that is live now, and what the gate said of the one that was ordered."""

    version: str
    gate: Judged | None = None
