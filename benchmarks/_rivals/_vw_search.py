"""A serious search for VW's best settings on the first tenth of the stream: coarse, then crossed, then polished.

1. every learner on a coarse grid of its own rates, interactions user × movie features and movie × user features;
2. the best of every learner, and the two best of the three best learners, with every set of interactions;
3. the best three (learner, interactions), and the best four with low-rank products, polished: each number in turn moves
   by shrinking factors, and L2, L1, initial t, rank and decade bins are tried, until nothing gains any more; last, a
   larger table.

Judged by progressive log loss. The search is kept in a JSON file named by a hash of this definition and of the events.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product

from benchmarks._rivals import _vw
from benchmarks._rivals._events import Events
from benchmarks._rivals._vw import Settings

ALL_SPACES = "umabd"

COARSE: dict[str, dict[str, list[float]]] = {
    "ftrl": {"ftrl_alpha": [0.05, 0.1, 0.2, 0.4, 0.8], "ftrl_beta": [0.03, 0.1, 0.3, 1.0, 3.0]},
    "pistol": {"ftrl_alpha": [0.25, 0.5, 1.0, 2.0, 4.0], "ftrl_beta": [0.1, 0.3, 1.0, 3.0]},
    "coin": {"ftrl_alpha": [1.0, 2.0, 4.0, 8.0, 16.0], "ftrl_beta": [0.3, 1.0, 3.0]},
    "adagrad": {"learning_rate": [0.1, 0.2, 0.4, 0.8, 1.6], "power_t": [0.25, 0.4, 0.5]},
    "adaptive": {"learning_rate": [0.05, 0.1, 0.2, 0.4], "power_t": [0.3, 0.4, 0.5]},
    "sgd": {"learning_rate": [0.02, 0.05, 0.1, 0.2, 0.4], "power_t": [0.0, 0.05, 0.1]},
}

BOTH = "-q ub -q ma"
LOW_RANK = [
    *(f"{BOTH} --lrq um{rank}" for rank in (1, 2, 3, 4, 6)),
    f"{BOTH} --lrq um4 --lrqdropout",
    f"{BOTH} --lrqfa um3",
    "-q ub --lrq um3",
    "-q ma --lrq ub3",
    "-q ub --lrq ma3",
    "--lrq um3",
]
INTERACTIONS = [
    "",
    "-q ub",
    "-q ma",
    "-q ab",
    "-q ub -q ab",
    "-q ma -q ab",
    BOTH,
    f"{BOTH} -q ab",
    f"{BOTH} -q aa",
    f"{BOTH} -q bb",
    f"{BOTH} --cubic ubb",
    f"{BOTH} --cubic maa",
    f"{BOTH} --interact ub",
    *LOW_RANK,
]

STEPS = {"ftrl_alpha": "x", "ftrl_beta": "x", "learning_rate": "x", "power_t": "+"}
SHRINK = {"x": [2.0, 1.4, 1.15], "+": [0.1, 0.05, 0.02]}
FOLLOW = ("ftrl", "pistol", "coin")  # follow-the-leader: L1 and L2 count once; elsewhere they shrink at every event
EXTRA: dict[bool, dict[str, list[float]]] = {
    True: {"l2": [0.0, 0.03, 0.1, 0.3, 1.0], "l1": [0.0, 1e-3, 1e-2, 0.1]},
    False: {"l2": [0.0, 1e-8, 1e-7, 1e-6, 1e-5], "l1": [0.0, 1e-8, 1e-7, 1e-6], "initial_t": [0.0, 1.0, 10.0, 100.0]},
}
BITS = [22, 24]
SPACES = ["umab", "umabd"]
DEFINITION = "3"  # raise when the procedure below changes in a way that the tables above do not show


@dataclass(frozen=True)
class Trial:
    """A setting and its progressive log loss on the events searched."""

    settings: Settings
    loss: float


@dataclass(frozen=True)
class Search:
    """All trials, best first, and the best polished ones, each with another learner or other interactions."""

    trials: tuple[Trial, ...]
    shortlist: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The winner on the events searched."""
        return self.shortlist[0]

    @property
    def linear(self) -> Trial:
        """The winner among those that see what a GLMix without loadings sees: crossings, no low-rank products."""
        return next(trial for trial in self.shortlist if not trial.settings.low_rank)


Judge = Callable[[Settings], float]


def search(tenth: Events, quick: bool = False, told: Callable[[int, Trial], None] | None = None) -> Search:
    """The search on `tenth`, from its JSON file where this very search has run before; `quick` is stage 1 only.

    `told(n, best)` hears the number of trials and the best so far after every trial.
    """
    path = _vw.OUT / f"vw-search-{_key(tenth, quick)}.json"
    if path.exists():
        return _read(path.read_text())
    found = _run(tenth, quick, told or (lambda n, best: None))
    path.write_text(_written(found))
    return found


def _run(tenth: Events, quick: bool, told: Callable[[int, Trial], None]) -> Search:
    binary = _vw.cache(tenth, ALL_SPACES)
    known: dict[Settings, float] = {}

    def judge(settings: Settings) -> float:
        if settings not in known:
            ignore = "".join(space for space in ALL_SPACES if space not in settings.spaces)
            known[settings] = _vw.loss(settings, binary, len(tenth), ignore)
            told(len(known), _ranked(known)[0])
        return known[settings]

    _try(judge, _coarse())
    if not quick:
        _try(judge, _crossed(_ranked(known)))
        polished = {_polish(judge, trial.settings) for trial in _contenders(_ranked(known))}
    else:
        polished = {trial.settings for trial in _contenders(_ranked(known))}
    shortlist = tuple(_ranked({settings: known[settings] for settings in polished}))
    return Search(tuple(_ranked(known)), shortlist)


def _try(judge: Judge, candidates: Iterable[Settings]) -> None:
    for settings in candidates:
        judge(settings)


def _coarse() -> Iterator[Settings]:
    for learner, grid in COARSE.items():
        for values in product(*grid.values()):
            yield Settings(learner, tuple(zip(grid, values)))


def _crossed(ranked: list[Trial]) -> Iterator[Settings]:
    by_learner = {learner: [t for t in ranked if t.settings.learner == learner] for learner in COARSE}
    for place, trials in enumerate(sorted(by_learner.values(), key=lambda trials: trials[0].loss)):
        for trial in trials[: 2 if place < 3 else 1]:
            for interactions in INTERACTIONS:
                yield replace(trial.settings, interactions=interactions)


def _contenders(ranked: list[Trial]) -> list[Trial]:
    """The best of each (learner, interactions): the best three, and the best four of the low-rank ones.

    Low-rank products gain with more data than a tenth, so a ranking by the tenth alone would sell VW short.
    """
    first: dict[tuple[str, str], Trial] = {}
    for trial in ranked:
        first.setdefault((trial.settings.learner, trial.settings.interactions), trial)
    low_rank = [trial for trial in first.values() if trial.settings.low_rank][:4]
    rest = [trial for trial in first.values() if not trial.settings.low_rank][:3]
    return sorted([*low_rank, *rest], key=lambda trial: trial.loss)


def _polish(judge: Judge, settings: Settings) -> Settings:
    """Coordinate descent until a whole round gains less than 3e-5."""
    before = float("inf")
    while before - judge(settings) > 3e-5:
        before = judge(settings)
        for name, _ in settings.knobs:
            settings = _line(judge, settings, name)
        settings = min(_variants(settings), key=judge)
    return min((replace(settings, bits=bits) for bits in BITS), key=judge)


def _line(judge: Judge, settings: Settings, name: str) -> Settings:
    """Best value of one number: walk downhill with each step size in turn."""
    if name not in STEPS:
        return settings
    for step in SHRINK[STEPS[name]]:
        while True:
            tried = min(_neighbours(settings, name, step), key=judge)
            if judge(tried) >= judge(settings):
                break
            settings = tried
    return settings


def _neighbours(settings: Settings, name: str, step: float) -> list[Settings]:
    value = dict(settings.knobs)[name]
    moved = [value * step, value / step] if STEPS[name] == "x" else [value + step, max(value - step, 0.0)]
    return [_with(settings, name, float(f"{x:.4g}")) for x in moved]


def _variants(settings: Settings) -> Iterator[Settings]:
    yield settings
    for name, values in EXTRA[settings.learner in FOLLOW].items():
        if f"--{name}" not in settings.interactions:
            yield from (_with(settings, name, value) for value in values)
    yield from (replace(settings, spaces=spaces) for spaces in SPACES)
    yield from (replace(settings, interactions=other) for other in _ranks(settings.interactions))


def _ranks(interactions: str) -> Iterator[str]:
    """The same interactions with one more and one less low-rank factor."""
    found = re.search(r"(--lrq(?:fa)? um)(\d+)", interactions)
    if found:
        rank = int(found[2])
        yield from (interactions.replace(found[0], f"{found[1]}{k}") for k in (rank - 1, rank + 1) if k)


def _with(settings: Settings, name: str, value: float) -> Settings:
    """`settings` with one number changed; zero L2, L1 and initial t are VW's defaults and are left out."""
    knobs = dict(settings.knobs) | {name: value}
    kept = tuple((k, v) for k, v in knobs.items() if v or k in STEPS)
    return replace(settings, knobs=kept)


def _ranked(known: dict[Settings, float]) -> list[Trial]:
    return sorted((Trial(s, x) for s, x in known.items()), key=lambda trial: trial.loss)


def _key(tenth: Events, quick: bool) -> str:
    tables = [DEFINITION, quick, _vw.LEARNERS, COARSE, INTERACTIONS, STEPS, SHRINK, str(EXTRA), BITS, SPACES]
    text = json.dumps([tenth.digest, len(tenth), *tables], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _written(found: Search) -> str:
    lists = {"trials": found.trials, "shortlist": found.shortlist}
    return json.dumps({name: [asdict(trial) for trial in trials] for name, trials in lists.items()}, indent=1)


def _read(text: str) -> Search:
    lists = json.loads(text)
    return Search(*(tuple(_trial(item) for item in lists[name]) for name in ("trials", "shortlist")))


def _trial(item: dict[str, object]) -> Trial:
    fields = dict(item["settings"])  # type: ignore[call-overload]
    fields["knobs"] = tuple((str(name), float(value)) for name, value in fields["knobs"])
    return Trial(Settings(**fields), float(item["loss"]))  # type: ignore[arg-type]
