"""torch, when it is there, and what to do when it is not."""

from __future__ import annotations

import importlib.util
from typing import Any

from nearline._errors import ConfigError


def require() -> None:
    """Refuse, with the fix, where torch is not installed.

    Raises
    ------
    ConfigError
        Names the extra.
    """
    if importlib.util.find_spec("torch") is None:
        raise ConfigError("nearline.deep needs torch, which is not installed; pip install 'nearline[deep]'")


def device(name: str) -> Any:
    """The torch device called `name`: "cpu", "cuda" or "cuda:1".

    Raises
    ------
    ConfigError
        torch knows no such device, or the machine has none.
    """
    import torch

    try:
        found = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name!r} is none that torch knows; use 'cpu' or 'cuda'") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name!r}: torch {torch.__version__} sees no CUDA device here; use device='cpu'")
    return found
