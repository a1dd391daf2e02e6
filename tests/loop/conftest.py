"""Services to tell a story to, closed when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.loop.story import Story


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Callable[..., Story]]:
    told: list[Story] = []

    def tell(name: str, **options: Any) -> Story:
        told.append(Story(tmp_path / name, **options))
        return told[-1]

    yield tell
    for it in told:
        if it.loop.error != "stopping":
            it.loop.close()
