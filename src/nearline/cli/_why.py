"""`nearline why`: whether the network was trained on a prediction, by which version, and with what probability."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import msgspec
from rich.console import Console

from nearline import config as configs
from nearline._errors import DataError
from nearline.cli import _training
from nearline.loop import Choice, History, SelectionLog
from nearline.store import Runs


def run(file: Path, prediction: str, as_object: bool) -> None:
    """Print what every training made of a prediction."""
    config = configs.load(file)
    folder = config.running().folder
    with _training.registry_of(config) as registry:
        model = _training.live_model(registry, file)
        SelectionLog(folder).collect(registry)
    with History(folder, model) as ledger:
        position, refused = Runs(folder / "ledger" / "runs.jsonl").resolve(
            [prediction], first=ledger.span[0], end=ledger.span[1]
        )
    if refused:
        raise DataError(refused[0], column="prediction_id", fix="give one that /predict answered with")
    found = SelectionLog(folder).of(int(position[0]))
    if as_object:
        print(msgspec.json.encode({"prediction_id": prediction, "trainings": [asdict(one) for one in found]}).decode())
        return
    console = Console(markup=False, highlight=False, soft_wrap=True)
    for one in found:
        console.print(sentence(one))
    if not found:
        console.print(
            f"no training has been offered prediction {prediction}: it has no label before their cut-offs yet"
        )


def sentence(choice: Choice) -> str:
    """What a training made of a prediction, for people.

    >>> sentence(Choice("2.0.0", "pps", 3, 0, "chosen", 0.25, 0.4, False))
    'version 2.0.0: chosen by pps in window 3 (seed 0) with probability 0.25, weight 0.4'
    >>> sentence(Choice("2.0.0", "uniform", 3, 0, "passed over", None, None, True))
    'version 2.0.0: passed over by uniform in window 3 (seed 0), by the network for comparison'
    >>> sentence(Choice("2.0.0", "pps", 3, 0, "trimmed", None, None, False, "pps(floor=0.1)"))
    'version 2.0.0: trimmed by pps(floor=0.1) in window 3 (seed 0)'
    """
    odds = "" if choice.probability is None else f" with probability {choice.probability:.3g}"
    weight = "" if choice.weight is None else f", weight {choice.weight:.3g}"
    whose = ", by the network for comparison" if choice.shadow else ""
    draw = f"in window {choice.window} (seed {choice.seed})"
    return f"version {choice.version}: {choice.fate} by {choice.setting or choice.rule} {draw}{odds}{weight}{whose}"
