"""Train a classifier on what a rule chooses of each window of images, and note the test error on the way."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from experiments._image_data import Images
from experiments._image_networks import NETWORKS, Classifier
from nearline import NearlineWarning, select

WINDOW, BATCH, RATE, CHECKS, SKETCH = 1_280, 128, 0.05, 5, 16


@dataclass(frozen=True)
class Course:
    """Test error after so many backward passes and so many seconds of choosing and training."""

    backwards: tuple[int, ...]
    seconds: tuple[float, ...]
    error: tuple[float, ...]

    def error_at(self, seconds: float) -> float:
        """Test error at a time, between the checks on a straight line."""
        return float(np.interp(seconds, self.seconds, self.error))


def course(
    images: Images, network: str, rule: select.Rule | None, ratio: float, seed: int, backwards: int, device: str
) -> Course:
    """One run of so many backward passes; None trains on all of each window."""
    torch.manual_seed(seed)
    model = NETWORKS[network]().to(device)
    step = torch.optim.SGD(model.parameters(), RATE, momentum=0.9)
    rng, state = np.random.default_rng([seed, 2]), select.SelectorState()
    # One thread trains: its processor time is what the wall shows on a machine that does nothing else.
    clock = time.process_time if device == "cpu" else time.perf_counter
    least = irreducible(images, network, seed, device) if rule is not None and rule.name == "rho_loss" else None
    done, seconds, noted = 0, 0.0, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NearlineWarning)
        for rows in windows(len(images.x), rng):
            scores = recorded(model, images, rows, least, seed) if rule is not None else None
            begun = clock()
            used, state = train(model, step, images, rows, rule, scores, ratio, rng, state)
            if device != "cpu":
                torch.cuda.synchronize()
            seconds += clock() - begun
            done += used
            if done >= backwards * (len(noted) + 1) / CHECKS:
                noted.append((done, seconds, test_error(model, images)))
            if done >= backwards:
                break
    return Course(*(tuple(column) for column in zip(*noted)))


def windows(n: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Windows of random images, every image once before any comes again."""
    while True:
        order = rng.permutation(n)
        yield from (order[first : first + WINDOW] for first in range(0, n - WINDOW + 1, WINDOW))


def recorded(model: Classifier, images: Images, rows: Any, least: Any, seed: int) -> select.Scores:
    """What serving these images leaves behind, priced with their classes."""
    with torch.no_grad():
        x = images.x[torch.as_tensor(rows, device=images.x.device)]
        logits, h = (torch.cat(parts) for parts in zip(*map(model, x.split(_chunk(x)))))
    log_p = torch.log_softmax(logits.double(), 1).cpu().numpy()
    label, inputs = images.y.cpu().numpy()[rows], h.double().cpu().numpy()
    scores = select.price_classes(log_p, label, np.sqrt((inputs**2).sum(1) + 1))
    u, v = select.signs(seed, 10, SKETCH), select.signs(seed + 1, inputs.shape[1] + 1, SKETCH)
    outputs = np.exp(log_p) @ u.T
    sketch = select.sketch_class_gradients(outputs, select.sketch_inputs(inputs, v), u, label)
    return replace(
        scores, label=label, sketch=sketch, lag=np.zeros(len(rows)), irreducible=None if least is None else least[rows]
    )


def train(
    model: Classifier, step: torch.optim.Optimizer, images: Images, rows: Any, rule: select.Rule | None, scores: Any,
    ratio: float, rng: np.random.Generator, state: select.SelectorState,
) -> tuple[int, select.SelectorState]:  # fmt: skip
    """Steps over mini-batches of the chosen rows, in random order; how many rows, and what the rule learned."""
    chosen = None if rule is None else rule(scores, ratio, rng, state)
    index = np.arange(len(rows)) if chosen is None else chosen.index
    weight = np.ones(len(index)) if chosen is None else chosen.weight
    fresh = np.zeros(len(index))
    order = rng.permutation(len(index))
    device = images.x.device
    for part in np.array_split(order, max(1, -(-len(order) // BATCH))):
        if not len(part):
            continue
        at = torch.as_tensor(rows[index[part]], device=device)
        logits, h = model(images.x[at])
        losses = cross_entropy(logits, images.y[at], reduction="none")
        step.zero_grad(set_to_none=True)
        (torch.as_tensor(weight[part], dtype=losses.dtype, device=device) * losses).mean().backward()
        step.step()
        fresh[part] = norms(logits.detach(), h.detach(), images.y[at])
    if rule is None or chosen is None:
        return len(index), state
    return len(index), rule.learn(chosen.state, chosen, fresh)


def norms(logits: torch.Tensor, h: torch.Tensor, label: torch.Tensor) -> NDArray[np.float64]:
    """√(Σ p² − 2 p_y + 1) √(‖h‖² + 1): the norm of the last layer's gradient."""
    p = torch.softmax(logits.double(), 1)
    own = p.gather(1, label[:, None])[:, 0]
    squares = p.square().sum(1) - 2 * own + 1
    return np.asarray((squares.clamp(min=0) * (h.double().square().sum(1) + 1)).sqrt().cpu().numpy())


def irreducible(images: Images, network: str, seed: int, device: str) -> NDArray[np.float64]:
    """Loss of every training image under a network trained on the tenth part of them, twice over."""
    held = replace(images, x=images.x[::10], y=images.y[::10])
    torch.manual_seed(seed + 1_000)
    model = NETWORKS[network]().to(device)
    step = torch.optim.SGD(model.parameters(), RATE, momentum=0.9)
    rng = np.random.default_rng([seed, 3])
    for number, rows in enumerate(windows(len(held.x), rng)):
        train(model, step, held, rows, None, None, 1.0, rng, select.SelectorState())
        if (number + 2) * WINDOW > 2 * len(held.x):
            break
    with torch.no_grad():
        losses = [cross_entropy(model(x)[0], y, reduction="none") for x, y in batches(images.x, images.y)]
    return np.asarray(torch.cat(losses).double().cpu().numpy())


def test_error(model: Classifier, images: Images) -> float:
    """Share of test images that the model gets wrong."""
    with torch.no_grad():
        wrong = [(model(x)[0].argmax(1) != y).sum() for x, y in batches(images.test_x, images.test_y)]
    return float(torch.stack(wrong).sum()) / len(images.test_y)


def batches(x: torch.Tensor, y: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Some at a time."""
    return zip(x.split(_chunk(x)), y.split(_chunk(x)))


def _chunk(x: torch.Tensor) -> int:
    """Images that go forward together: on a CPU, as many as its caches hold what the layers make of."""
    return BATCH if x.device.type == "cpu" else 1_000
