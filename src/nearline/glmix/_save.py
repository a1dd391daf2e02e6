"""Models on disk: a folder of JSON, safetensors (posteriors) and Arrow (vocabulary); never a pickle.

    manifest.json              format version, settings, effects, beliefs, and name, size and SHA-256 of the others
    state-<hash>.safetensors   means, covariances, times and counts by block, and learned joint priors
    vocabulary-<hash>.arrow    levels, slots and entity values

Files are named by their content and the manifest is renamed into place last, so a reader, or a crash at any moment,
finds the old model or the new one, whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from nearline._errors import StateError
from nearline.features import Encoder
from nearline.glmix._effects import Effect, Fixed, Forgetting, Loadings, Prior, Random
from nearline.glmix._fit._settings import FixedFit, RandomFit
from nearline.glmix._state import Belief, Block

if TYPE_CHECKING:
    from nearline.glmix._model import GLMix

Read = TypeVar("Read")
FORMAT = 1
MANIFEST, STATE, VOCABULARY, ASIDE = "manifest.json", "state", "vocabulary", ".new-"
PARTS = {STATE: ".safetensors", VOCABULARY: ".arrow"}
SETTINGS = ("link", "mode", "dtype", "dispersion", "threads", "refresh_every")


def save(model: GLMix, folder: Path) -> Path:
    """Write the model to `folder`, replacing a model that is there; anything else there is refused."""
    return replace_folder(folder, lambda aside: _write(model, aside))


def replace_folder(folder: Path, write: Callable[[Path], dict[str, Any]]) -> Path:
    """Put in `folder` the files that `write` makes in an empty one, the manifest that it returns last."""
    if folder.exists() and not (folder / MANIFEST).exists() and not _is_free(folder):
        raise StateError(f"{folder} exists and holds something else than a model; give an empty or new folder")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=folder) as aside:
        manifest = write(Path(aside))
        for entry in manifest["files"].values():
            (Path(aside) / entry["name"]).replace(folder / entry["name"])
        sync(folder)
        (Path(aside) / MANIFEST).replace(folder / MANIFEST)
    sync(folder)
    kept = {MANIFEST, *(entry["name"] for entry in manifest["files"].values())}
    for path in folder.iterdir():
        if _is_ours(path) and path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def _is_free(folder: Path) -> bool:
    return folder.is_dir() and all(_is_ours(path) for path in folder.iterdir())


def _is_ours(path: Path) -> bool:
    """Whether a file is of a model, or what a crashed save left behind."""
    name = path.name
    parts = any(name.startswith(f"{part}-") and name.endswith(suffix) for part, suffix in PARTS.items())
    return name == MANIFEST or parts or name.startswith(ASIDE)


def sync(path: Path) -> None:
    """Make what was written to a file, or renamed in a folder, survive a power cut."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(model: GLMix, folder: Path) -> dict[str, Any]:
    about = {
        "settings": {name: getattr(model, name) for name in SETTINGS},
        "events_learned": model.events_learned,
        "effects": [_effect_state(effect) for effect in (model.fixed, *model.random)],
        "blocks": [_block_state(block) for block in model.blocks],
    }
    return write_parts(about, _tensors(model), model.encoder, folder)


def write_parts(about: Mapping[str, Any], tensors: dict[str, Any], encoder: Encoder, folder: Path) -> dict[str, Any]:
    """Write arrays, vocabulary and the manifest, which is `about` and what the other files must be."""
    from safetensors.numpy import save_file

    vocabulary, arrays = encoder.to_state()
    _write_arrow(arrays, folder / VOCABULARY)
    save_file(tensors, folder / STATE)
    files = {part: _named_by_content(folder, part) for part in PARTS}
    manifest = {"format": FORMAT, **about, "vocabulary": vocabulary, "files": files}
    manifest["checksum"] = _checksum(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, default=plain), encoding="utf-8")
    sync(folder / MANIFEST)
    return manifest


def _named_by_content(folder: Path, part: str) -> dict[str, Any]:
    path = folder / part
    digest = _digest(path)
    name = f"{part}-{digest['sha256'][:16]}{PARTS[part]}"
    sync(path.rename(folder / name))
    return {"name": name, **digest}


def load(cls: type[GLMix], folder: Path) -> GLMix:
    """Read a model; every checksum is verified before anything is used."""
    return read_folder(folder, lambda manifest, paths: _load(cls, manifest, paths))


def read_folder(folder: Path, read: Callable[[Mapping[str, Any], Mapping[str, Path]], Read]) -> Read:
    """What `read` makes of a folder's manifest and the paths of its other files, all of them verified."""
    manifest = _read_manifest(folder)
    try:
        return read(manifest, _verified_parts(folder, manifest))
    except StateError:
        newer = _read_manifest(folder)
        if newer == manifest:
            raise
        # A save came between the manifest and its files.
        return read(newer, _verified_parts(folder, newer))


def _verified_parts(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Path]:
    return {part: _verified(folder, entry) for part, entry in manifest["files"].items()}


def _load(cls: type[GLMix], manifest: Mapping[str, Any], paths: Mapping[str, Path]) -> GLMix:
    if "effects" not in manifest:
        raise StateError(f"the folder holds a {manifest.get('kind', 'model of another kind')}, not a GLMix")
    encoder = Encoder.from_state(manifest["vocabulary"], read_arrow(paths[VOCABULARY]))
    fixed, *random = (_effect_from(state) for state in manifest["effects"])
    assert isinstance(fixed, Fixed)
    model = cls(encoder.schema, fixed, [e for e in random if not isinstance(e, Fixed)], **manifest["settings"])
    model.encoder, model.events_learned = encoder, manifest["events_learned"]
    _restore(model.blocks, manifest["blocks"], paths[STATE])
    return model


def _verified(folder: Path, entry: Mapping[str, Any]) -> Path:
    path: Path = folder / entry["name"]
    if not path.exists():
        raise StateError(f"{path} is missing; the model cannot be loaded, restore the file from a copy")
    found = _digest(path)
    if found != {name: entry[name] for name in found}:
        raise StateError(
            f"{path} was truncated or altered: {found['bytes']} bytes with SHA-256 {found['sha256'][:12]}…, the "
            f"manifest says {entry['bytes']} bytes with {entry['sha256'][:12]}…; restore the file from a copy"
        )
    return path


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
            mean=tensors[f"{r}.mean"], cov=tensors[f"{r}.cov"], last=tensors[f"{r}.last"],
            counts=tensors[f"{r}.counts"], kmax=state.get("kmax"),
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
        "kmax": block.kmax,
        "known_slots": block.known_slots,
        "slots": block.slots,
        "columns": block.columns,
        "prior": msgspec.to_builtins(block.belief.prior, enc_hook=plain),
        "forgetting": msgspec.to_builtins(block.belief.forgetting, enc_hook=plain),
    }


def _belief_from(state: Mapping[str, Any], tensors: Mapping[str, Any], r: int) -> Belief:
    return Belief(
        Prior(**state["prior"]), Forgetting(**state["forgetting"]),
        tensors.get(f"{r}.prior_mean"), tensors.get(f"{r}.prior_covariance"),
    )  # fmt: skip


def _effect_state(effect: Effect) -> dict[str, Any]:
    fields = {name: getattr(effect, name) for name in effect.__dataclass_fields__}
    return {"type": type(effect).__name__, **msgspec.to_builtins(fields, enc_hook=plain)}


def _effect_from(state: Mapping[str, Any]) -> Effect:
    fields = {name: value for name, value in state.items() if name != "type"}
    prior, forgetting = Prior(**fields.pop("prior")), Forgetting(**fields.pop("forgetting"))
    fit = fields.pop("fit", {})  # a model saved before there were such settings
    if state["type"] == "Fixed":
        return Fixed(*fields.pop("on"), prior=prior, forgetting=forgetting, fit=FixedFit.of(fit), **fields)
    if state["type"] == "Random":
        return Random(prior=prior, forgetting=forgetting, fit=RandomFit(**fit), **fields)
    kept = {name: fields[name] for name in ("key", "of", "name")}
    return Loadings(prior=prior, forgetting=forgetting, **kept)


def _write_arrow(arrays: Mapping[str, Any], path: Path) -> None:
    import pyarrow as pa

    # Arrays differ in length, so each stands in a list column of one row.
    columns = {name: pa.ListArray.from_arrays(pa.array([0, len(a)], pa.int32()), a) for name, a in arrays.items()}
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_arrow(path: Path) -> dict[str, Any]:
    """Arrays of a vocabulary, by name."""
    import pyarrow as pa

    with pa.OSFile(str(path), "rb") as source:
        table = pa.ipc.open_file(source).read_all()
    return {name: table.column(name).chunk(0).flatten() for name in table.column_names}


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, default=plain).encode()).hexdigest()


def plain(value: Any) -> Any:
    """A NumPy number or a mapping as Python's own, for encoders."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no place in a manifest")
