"""A registry with a clock that stands still, and short ways to stage, register and publish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nearline.store import Registry, Version

V = Version.parse
ANN: Any = {"who": "ann", "why": "test"}


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def staged(registry: Registry, text: str = "{}") -> Path:
    """A folder as `GLMix.save` leaves it, as far as the registry looks."""
    folder = registry.stage()
    (folder / "manifest.json").write_text(text)
    (folder / "state-1.safetensors").write_bytes(b"numbers")
    return folder


def register(registry: Registry, *names: str, **options: Any) -> None:
    for name in names:
        registry.register(staged(registry, name), V(name), **{**ANN, **options})


def publish(registry: Registry, *names: str) -> None:
    for name in names:
        if not any(record.version == V(name) for record in registry.versions()):
            register(registry, name)
        registry.publish(V(name), **ANN)


def live(registry: Registry) -> str | None:
    record = registry.live()
    return None if record is None else str(record.version)
