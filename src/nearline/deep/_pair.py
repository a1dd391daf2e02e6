"""A network and its effects on disk, as one: the manifest names the folder that holds both, and is renamed last.

manifest.json            calibration, and name of the pair
pair-<hash>/network      as `Network.save` writes it
pair-<hash>/effects      as `GLMix.save` writes it
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearline._errors import StateError
from nearline.deep._architecture import Architecture
from nearline.deep._kinds import PAIR
from nearline.deep._network import Network
from nearline.glmix import GLMix
from nearline.glmix._save import ASIDE, MANIFEST, sync

if TYPE_CHECKING:
    from nearline.deep._glmix import DeepGLMix

PREFIX, PARTS = "pair-", ("network", "effects")


def save(model: DeepGLMix, folder: Path) -> Path:
    """Write both parts aside, then rename them into place, the manifest last."""
    if folder.exists() and any(not _is_ours(path) for path in folder.iterdir()):
        raise StateError(f"{folder} exists and holds something else than a model; give an empty or new folder")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=folder) as aside:
        pair = Path(aside) / "pair"
        model.network.save(pair / "network")
        model.effects.save(pair / "effects")
        name = PREFIX + _checksum(pair)[:16]
        if not (folder / name).exists():
            pair.rename(folder / name)
        about = {"kind": PAIR, "calibration": asdict(model.calibration), "pair": name}
        manifest = Path(aside) / MANIFEST
        manifest.write_text(json.dumps({**about, "checksum": _of(about)}, indent=1), encoding="utf-8")
        sync(manifest)
        sync(folder)
        manifest.replace(folder / MANIFEST)
    sync(folder)
    for path in folder.iterdir():
        if path.name not in (MANIFEST, name):
            shutil.rmtree(path)
    return folder


def _is_ours(path: Path) -> bool:
    return path.name == MANIFEST or path.name.startswith((PREFIX, ASIDE))


def _checksum(pair: Path) -> str:
    """Of both manifests, which hold the checksums of everything else."""
    parts = [(pair / part / MANIFEST).read_bytes() for part in PARTS]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _of(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def load(cls: type[DeepGLMix], folder: Path, architecture: Architecture | None, device: str) -> DeepGLMix:
    """Read both parts, all of them verified."""
    about = _read(folder)
    try:
        return _load(cls, folder, about, architecture, device)
    except StateError:
        newer = _read(folder)
        if newer == about:
            raise
        # A save came between the manifest and its pair.
        return _load(cls, folder, newer, architecture, device)


def _load(
    cls: type[DeepGLMix], folder: Path, about: dict[str, Any], architecture: Architecture | None, device: str
) -> DeepGLMix:
    from nearline.deep._glmix import Calibration

    pair = folder / about["pair"]
    whole = all((pair / part / MANIFEST).exists() for part in PARTS)
    if not whole or PREFIX + _checksum(pair)[:16] != about["pair"]:
        raise StateError(f"{pair} is missing or was altered; restore it from a copy")
    network = Network.load(pair / "network", architecture=architecture, device=device)
    return cls(network, GLMix.load(pair / "effects"), calibration=Calibration(**about["calibration"]))


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.exists():
        raise StateError(f"{folder} holds no model: {MANIFEST} is missing")
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StateError(f"{path} is not readable JSON ({error}); restore it from a copy") from None
    if about.get("kind") != PAIR:
        raise StateError(f"{folder} holds no DeepGLMix; read it with GLMix.load or Network.load")
    if about.pop("checksum", None) != _of(about):
        raise StateError(f"{path} was altered: its checksum does not match; restore it from a copy")
    return about
