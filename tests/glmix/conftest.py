"""A model on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.glmix.save_parts import model_of, table


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = model_of("loadings")
    model.partial_fit(table())
    return model.save(tmp_path / "model")
