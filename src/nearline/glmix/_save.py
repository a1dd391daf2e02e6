"""Models on disk: a folder with a JSON manifest, safetensors for posteriors and Arrow for the vocabulary; never a pickle.

    manifest.json      format version, settings, effects, beliefs, and the SHA-256 and size of every other file
    state.safetensors  means, covariances, times and counts by block, and learned joint priors
    vocabulary.arrow   levels, slots and entity values

The folder is written aside and renamed, so a reader sees a whole model or none.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from nearline._errors import StateError
from nearline.features import Encoder
from nearline.glmix._effects import Effect, Fixed, Forgetting, Loadings, Prior, Random
from nearline.glmix._state import Belief, Block

if TYPE_CHECKING:
    from nearline.glmix._model import GLMix

FORMAT = 1
MANIFEST, STATE, VOCABULARY = "manifest.json", "state.safetensors", "vocabulary.arrow"
SETTINGS = ("link", "mode", "dtype", "dispersion", "threads", "refresh_every")


def save(model: GLMix, folder: Path) -> Path:
    """Write the model to `folder`, replacing a model that is there; anything else there is refused."""
    if folder.exists() and not (folder / MANIFEST).exists():
        raise StateError(f"{folder} exists and holds no model; give an empty or new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(model, aside)
        old = None
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            folder.rename(old / "model")
        aside.rename(folder)
        if old is not None:
            shutil.rmtree(old)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return folder


def _write(model: GLMix, folder: Path) -> None:
    from safetensors.numpy import save_file

    vocabulary, arrays = model.encoder.to_state()
    _write_arrow(arrays, folder / VOCABULARY)
    save_file(_tensors(model), folder / STATE)
    manifest = {
        "format": FORMAT,
        "settings": {name: getattr(model, name) for name in SETTINGS},
        "events_learned": model.events_learned,
        "effects": [_effect_state(effect) for effect in (model.fixed, *model.random)],
        "blocks": [_block_state(block) for block in model.blocks],
        "vocabulary": vocabulary,
        "files": {name: _digest(folder / name) for name in (STATE, VOCABULARY)},
    }
    manifest["checksum"] = _checksum(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, default=_plain), encoding="utf-8")


def load(cls: type[GLMix], folder: Path) -> GLMix:
    """Read a model; every checksum is verified before anything is used."""
    manifest = _read_manifest(folder)
    for name, expected in manifest["files"].items():
        if not (folder / name).exists():
            raise StateError(f"{folder / name} is missing; the model cannot be loaded")
        found = _digest(folder / name)
        if found != expected:
            raise StateError(
                f"{folder / name} was truncated or altered: {found['bytes']} bytes with SHA-256 {found['sha256'][:12]}…, "
                f"the manifest says {expected['bytes']} bytes with {expected['sha256'][:12]}…; restore it from a copy"
            )
    encoder = Encoder.from_state(manifest["vocabulary"], _read_arrow(folder / VOCABULARY))
    effects = [_effect_from(state) for state in manifest["effects"]]
    fixed, random = effects[0], effects[1:]
    assert isinstance(fixed, Fixed)
    model = cls(encoder.schema, fixed, [e for e in random if not isinstance(e, Fixed)], **manifest["settings"])
    model.encoder, model.events_learned = encoder, manifest["events_learned"]
    _restore(model.blocks, manifest["blocks"], folder / STATE)
    return model


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.exists():
        raise StateError(f"{folder} holds no model: {MANIFEST} is missing")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise StateError(f"{path} is not readable JSON ({error}); restore it from a copy") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise StateError(f"{path} has format {found!r}; this version of nearline reads {FORMAT}")
    checksum = manifest.pop("checksum", None)
    if checksum != _checksum(manifest):
        raise StateError(f"{path} was altered: its checksum does not match; restore it from a copy")
    return manifest


def _restore(blocks: list[Block], states: list[Mapping[str, Any]], path: Path) -> None:
    from safetensors.numpy import load_file

    tensors = load_file(path)
    for r, (block, state) in enumerate(zip(blocks, states)):
        block.known_slots = state["known_slots"]
        block.restore(
            kind=state["kind"], slots=state["slots"], columns=state["columns"], belief=_belief_from(state, tensors, r),
            mean=tensors[f"{r}.mean"], cov=tensors[f"{r}.cov"], last=tensors[f"{r}.last"], counts=tensors[f"{r}.counts"],
        )  # fmt: skip


def _tensors(model: GLMix) -> dict[str, Any]:
    out = {}
    for r, block in enumerate(model.blocks):
        n = block.entities
        for name, array in (("mean", block.mean), ("cov", block.cov), ("last", block.last), ("counts", block.counts)):
            out[f"{r}.{name}"] = np.ascontiguousarray(array[:n])
        if block.belief.mean is not None:
            out[f"{r}.prior_mean"] = np.ascontiguousarray(block.belief.mean)
        if block.belief.covariance is not None:
            out[f"{r}.prior_covariance"] = np.ascontiguousarray(block.belief.covariance)
    return out


def _block_state(block: Block) -> dict[str, Any]:
    return {
        "name": block.name,
        "kind": int(block.kind),
        "known_slots": block.known_slots,
        "slots": block.slots,
        "columns": block.columns,
        "prior": msgspec.to_builtins(block.belief.prior, enc_hook=_plain),
        "forgetting": msgspec.to_builtins(block.belief.forgetting, enc_hook=_plain),
    }


def _belief_from(state: Mapping[str, Any], tensors: Mapping[str, Any], r: int) -> Belief:
    return Belief(
        Prior(**state["prior"]), Forgetting(**state["forgetting"]),
        tensors.get(f"{r}.prior_mean"), tensors.get(f"{r}.prior_covariance"),
    )  # fmt: skip


def _effect_state(effect: Effect) -> dict[str, Any]:
    fields = {name: getattr(effect, name) for name in effect.__dataclass_fields__}
    return {"type": type(effect).__name__, **msgspec.to_builtins(fields, enc_hook=_plain)}


def _effect_from(state: Mapping[str, Any]) -> Effect:
    fields = {name: value for name, value in state.items() if name != "type"}
    prior, forgetting = Prior(**fields.pop("prior")), Forgetting(**fields.pop("forgetting"))
    if state["type"] == "Fixed":
        return Fixed(*fields.pop("on"), prior=prior, forgetting=forgetting, **fields)
    if state["type"] == "Random":
        return Random(prior=prior, forgetting=forgetting, **fields)
    kept = {name: fields[name] for name in ("key", "of", "name")}
    return Loadings(prior=prior, forgetting=forgetting, **kept)


def _write_arrow(arrays: Mapping[str, Any], path: Path) -> None:
    import pyarrow as pa

    # Arrays differ in length, so each stands in a list column of one row.
    columns = {name: pa.ListArray.from_arrays(pa.array([0, len(a)], pa.int32()), a) for name, a in arrays.items()}
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read_arrow(path: Path) -> dict[str, Any]:
    import pyarrow as pa

    with pa.OSFile(str(path), "rb") as source:
        table = pa.ipc.open_file(source).read_all()
    return {name: table.column(name).chunk(0).flatten() for name in table.column_names}


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no place in a manifest")
