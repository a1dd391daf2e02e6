"""What a folder holds, told without torch."""

from __future__ import annotations

import json
from pathlib import Path

from nearline.glmix._save import MANIFEST

PAIR = "deep-glmix"
"""`kind` in the manifest of a network and its effects."""


def is_pair(folder: Path) -> bool:
    """Whether a folder holds a network and its effects; False where it holds anything else, or cannot be read."""
    try:
        return json.loads((folder / MANIFEST).read_text("utf-8")).get("kind") == PAIR
    except (OSError, ValueError, AttributeError):
        return False
