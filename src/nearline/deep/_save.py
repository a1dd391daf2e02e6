"""Networks on disk: the folder of `glmix._save`, with a network's manifest, weights and optimiser state.

manifest.json              settings, architecture, counts, and name, size and SHA-256 of the others
state-<hash>.safetensors   weights ("module.…"), state of the optimisers ("steps.…"), of the prior ("evidence.…")
vocabulary-<hash>.arrow    levels, slots and entity values
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearline._errors import StateError
from nearline.deep._architecture import Architecture, architecture_from, architecture_state
from nearline.deep._evidence import from_tensors
from nearline.deep._inputs import InputMap
from nearline.deep._optimiser import Optimiser
from nearline.deep._passes import Passes
from nearline.deep._prior import Laplace
from nearline.features import Encoder
from nearline.glmix import _save as folders

if TYPE_CHECKING:
    from nearline.deep._network import Network

KIND = "network"
SETTINGS = ("columns", "link", "seed", "dtype")


def save(network: Network, folder: Path) -> Path:
    """Write the network to `folder`, replacing a model that is there."""
    return folders.replace_folder(
        folder, lambda aside: folders.write_parts(_manifest(network), _tensors(network), network.encoder, aside)
    )


def _manifest(network: Network) -> dict[str, Any]:
    return {
        "kind": KIND,
        "settings": {name: getattr(network, name) for name in SETTINGS},
        "architecture": architecture_state(network.architecture),
        "optimiser": asdict(network.optimiser),
        "laplace": asdict(network.laplace),
        "passes": asdict(network.passes),
        "epochs": network.epochs,
        "known_slots": network.inputs.n_slots,
        "table_rows": len(network.module.table.weight),
    }


def _tensors(network: Network) -> dict[str, Any]:
    said = {
        f"{layer}:{name}": tensor
        for layer, evidence in network.evidence.items()
        for name, tensor in evidence.tensors().items()
    }
    parts = {"module": network.module.state_dict(), "steps": network.steps.tensors(), "evidence": said}
    return {
        f"{part}.{name}": tensor.detach().cpu().contiguous().numpy()
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }


def load(cls: type[Network], folder: Path, architecture: Architecture | None, device: str) -> Network:
    """Read a network; every checksum is verified before anything is used."""
    return folders.read_folder(folder, lambda manifest, paths: _load(cls, manifest, paths, architecture, device))


def _load(
    cls: type[Network], manifest: Mapping[str, Any], paths: Mapping[str, Path], given: Architecture | None, device: str
) -> Network:
    if manifest.get("kind") != KIND:
        raise StateError("the folder holds a GLMix, not a network; read it with GLMix.load")
    encoder = Encoder.from_state(manifest["vocabulary"], folders.read_arrow(paths[folders.VOCABULARY]))
    architecture = architecture_from(manifest["architecture"], given)
    network = cls(
        encoder.schema, keys=encoder.keys, architecture=architecture, optimiser=Optimiser(**manifest["optimiser"]),
        laplace=Laplace(**manifest["laplace"]),
        device=device, **manifest["settings"],
    )  # fmt: skip
    network.encoder, network.epochs, network.passes = encoder, manifest["epochs"], Passes(**manifest["passes"])
    _restore(network, manifest, paths[folders.STATE])
    return network


def _restore(network: Network, manifest: Mapping[str, Any], path: Path) -> None:
    from safetensors.torch import load_file

    tensors = load_file(path, device=network.device)
    network._map = InputMap(network.encoder, network.columns, network.keys, manifest["known_slots"])
    network._start()
    network.module.table.reach(manifest["table_rows"])
    network.module.load_state_dict(_part(tensors, "module."))
    network.steps.grow()
    network.steps.restore(_part(tensors, "steps."))
    by_layer: dict[str, dict[str, Any]] = {}
    for key, tensor in _part(tensors, "evidence.").items():
        layer, name = key.split(":")
        by_layer.setdefault(layer, {})[name] = tensor
    network.evidence = {layer: from_tensors(parts) for layer, parts in by_layer.items()}


def _part(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
