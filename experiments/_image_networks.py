"""Small image classifiers: a body that gives h, and the last layer that reads it."""

from __future__ import annotations

import torch
from torch import nn


class Classifier(nn.Module):
    """Log-odds of ten classes, and h."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.body(x)
        return self.head(h), h


def mlp() -> Classifier:
    """784-256-128-10."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())
    return Classifier(body, 128)


def cnn() -> Classifier:
    """Two convolutions of 5 × 5, each halved, and one hidden layer."""
    body = nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 49, 128), nn.ReLU(),
    )  # fmt: skip
    return Classifier(body, 128)


class Residual(nn.Module):
    """relu(x' + conv(relu(conv(x)))), x' halved in size where channels double; group norm, so rows stay apart."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        stride = 1 if given == made else 2
        self.one, self.two = (
            nn.Sequential(nn.Conv2d(a, made, 3, s, 1, bias=False), nn.GroupNorm(8, made))
            for a, s in ((given, stride), (made, 1))
        )
        self.short = nn.Identity() if given == made else nn.Conv2d(given, made, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.short(x) + self.two(torch.relu(self.one(x))))


def resnet() -> Classifier:
    """A residual network of eight layers: 32, 64 and 128 channels."""
    stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.GroupNorm(8, 32), nn.ReLU())
    blocks = (Residual(32, 32), Residual(32, 64), Residual(64, 128))
    return Classifier(nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 128)


NETWORKS = {"mlp": mlp, "cnn": cnn, "resnet": resnet}
