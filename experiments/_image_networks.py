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
    """784-128-64-10."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
    return Classifier(body, 64)


def cnn() -> Classifier:
    """Two convolutions of 5 × 5, each in steps of two, and one hidden layer."""
    body = nn.Sequential(
        nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 5, 2, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 49, 64), nn.ReLU(),
    )  # fmt: skip
    return Classifier(body, 64)


class Residual(nn.Module):
    """relu(x' + conv(relu(conv(x)))), x' halved in size where channels double; group norm, so rows stay apart."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        stride = 1 if given == made else 2
        self.one, self.two = (
            nn.Sequential(nn.Conv2d(a, made, 3, s, 1, bias=False), nn.GroupNorm(4, made))
            for a, s in ((given, stride), (made, 1))
        )
        self.short = nn.Identity() if given == made else nn.Conv2d(given, made, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.short(x) + self.two(torch.relu(self.one(x))))


def resnet() -> Classifier:
    """A residual network of eight layers, 16, 32 and 64 channels, halved at once: small enough for a CPU."""
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.GroupNorm(4, 16), nn.ReLU())
    blocks = (Residual(16, 16), Residual(16, 32), Residual(32, 64))
    return Classifier(nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 64)


NETWORKS = {"mlp": mlp, "cnn": cnn, "resnet": resnet}
