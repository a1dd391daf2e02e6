"""MNIST and CIFAR-10 as tensors, from the folder that NEARLINE_DATA names."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nearline import StateError


@dataclass(frozen=True)
class Images:
    """Training and test images (n, channels, height, width), scaled to mean 0 and deviation 1, and their classes."""

    x: torch.Tensor
    y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor


def load(name: str, device: str, few: bool = False) -> Images:
    """The data set `mnist` or `cifar` on a device; `few` keeps 6,400 images to train on and 1,000 to test."""
    (x, y), (test_x, test_y) = _mnist() if name == "mnist" else _cifar()
    if few:
        x, y, test_x, test_y = x[:6_400], y[:6_400], test_x[:1_000], test_y[:1_000]
    mean, deviation = x.mean(axis=(0, 2, 3), keepdims=True), x.std(axis=(0, 2, 3), keepdims=True)
    floats = [torch.from_numpy(((part - mean) / deviation).astype(np.float32)).to(device) for part in (x, test_x)]
    classes = [torch.from_numpy(part.astype(np.int64)).to(device) for part in (y, test_y)]
    return Images(floats[0], classes[0], floats[1], classes[1])


def _mnist() -> Any:
    with np.load(_folder("mnist") / "mnist.npz") as held:
        return tuple((held[f"x_{part}"][:, None].astype(np.float32), held[f"y_{part}"]) for part in ("train", "test"))


def _cifar() -> Any:
    import pyarrow.parquet as pq
    from PIL import Image

    def read(part: str) -> Any:
        table = pq.read_table(_folder("cifar-10-jpeg") / f"{part}.parquet")
        x = np.stack([np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in table["jpeg"].to_pylist()])
        # The file's classes take turns: its order says the class.
        order = np.random.default_rng(0).permutation(len(x))
        return x.transpose(0, 3, 1, 2)[order].astype(np.float32), table["label"].to_numpy()[order]

    return read("train"), read("test")


def _folder(name: str) -> Path:
    root = os.environ.get("NEARLINE_DATA")
    if not root or not (Path(root) / name).is_dir():
        raise StateError(f"data set {name!r} not found: set NEARLINE_DATA to the folder that holds {name}/")
    return Path(root) / name
