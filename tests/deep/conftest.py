from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'nearline[deep]'")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
