"""Where a data set lies on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nearline._errors import StateError

VARIABLE = "NEARLINE_DATA"


def locate(
    name: str, folder: str | Path | None, layouts: Mapping[str, tuple[str, ...]], folders: tuple[str, ...]
) -> tuple[str, Path]:
    """The layout found and the folder that holds it.

    `layouts` maps a layout to the files that must all be there; `folders` are the sub-folders it may lie in. Raises
    `StateError` saying where it looked and how to get the data.
    """
    places = _places(folder, folders)
    for place in places:
        for layout, files in layouts.items():
            if all((place / file).is_file() for file in files):
                return layout, place
    looked = f"looked in {', '.join(map(str, places))}" if places else f"no folder given and {VARIABLE} is not set"
    raise StateError(
        f"data set {name!r} not found: {looked}; pass folder=..., set {VARIABLE}, "
        f'or fetch it with nearline.datasets.download("{name}", folder)'
    )


def _places(folder: str | Path | None, folders: tuple[str, ...]) -> list[Path]:
    root = folder if folder is not None else os.environ.get(VARIABLE)
    return [Path(root), *(Path(root) / sub for sub in folders)] if root else []
