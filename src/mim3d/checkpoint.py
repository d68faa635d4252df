"""Trained networks on disk: one safetensors file that says all that using it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mim3d.data.files import replacing
from mim3d.errors import UserError
from mim3d.nn import ForecastNetwork, build

FORMAT_VERSION = 3
REFINED_GUIDE_VERSION = 3
"""Version from which on guided networks correct a simulation on cells half as large as their voxels."""

METADATA_KEY = "mim3d"

MODELS = Path(str(resources.files("mim3d"))) / "models"
"""Folder of what comes with the package."""


def bundled_models() -> list[Path]:
    """Return the paths of the checkpoints that come with the package."""
    return sorted(MODELS.glob("*.safetensors"), key=lambda path: path.stem)


@dataclass(frozen=True)
class Checkpoint:
    """A network's weights and what they were trained for.

    What is not known, for instance of converted weights, is None or empty.

    Parameters
    ----------
    network
        Name of the network, a key of `mim3d.nn.NETWORKS`.
    settings
        The network's constructor arguments.
    weights
        The network's `state_dict`.
    scaling
        How fields become channels, as `mim3d.data.Scaling.to_dict` gives it.
    fields
        Names of the channels that are forecast, in their order.
    static
        Names of the channels that are given, which follow.
    grid
        Voxels along each axis of the frames.
    box_size
        Side lengths of the box [pc].
    time_step
        Time between frames [Myr].
    input_length
        Number of frames that go in.
    num_frames
        Number of frames of the sequences in training, those that go in counted too.
    units
        Unit of each field, by name.
    guard
        What tells gas like the training's from other gas, as `mim3d.trust.Guard.to_dict` gives it.
    spread
        What turns the disagreement of a forecast's members into its error, as
        `mim3d.trust.SpreadScale.to_dict` gives it.
    dataset
        For networks that were trained on a named data set of images: its `name`, `time_step`, `time_unit` and
        `value_range`.
    provenance
        Where the weights come from: data, recipe, time, machine, scores.
    format_version
        Version of the file's layout.
    """

    network: str
    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    scaling: Mapping[str, Any] | None = None
    fields: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    grid: tuple[int, ...] | None = None
    box_size: tuple[float, ...] | None = None
    time_step: float | None = None
    input_length: int | None = None
    num_frames: int | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    guard: Mapping[str, Any] | None = None
    spread: Mapping[str, Any] | None = None
    dataset: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def build_network(self) -> ForecastNetwork:
        """Make the network, filled with the weights, in evaluation mode, on the CPU.

        Raises
        ------
        UserError
            If settings and weights do not belong together.
        """
        network = build(self.network, self.settings)
        try:
            network.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise UserError(f"the checkpoint's weights do not fit its settings: {error}") from None
        return network.eval()


def save(checkpoint: Checkpoint, path: str | Path, *, half: bool = False) -> None:
    """Write a checkpoint, all at once or not at all.

    Parameters
    ----------
    checkpoint
        What to write.
    path
        The safetensors file; an old one is replaced.
    half
        Store the weights in half precision, which rounds them by up to 0.05 %: half the size. Networks
        compute with float32 weights all the same.

    Raises
    ------
    UserError
        If a weight is too large for half precision.
    """
    names = [item.name for item in fields(Checkpoint) if item.name != "weights"]
    header = {name: getattr(checkpoint, name) for name in names}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}
    if half:
        weights = {name: _halved(name, tensor) for name, tensor in weights.items()}
    with replacing(path) as temporary:
        save_file(weights, temporary, {METADATA_KEY: json.dumps(header, sort_keys=True)})


def _halved(name: str, weight: Tensor) -> Tensor:
    if not weight.is_floating_point():
        return weight
    halved = weight.half()
    if not halved.isfinite().all():
        raise UserError(f"the weight {name} holds {weight.abs().max():.3g}, too much for half precision")
    return halved


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Parameters
    ----------
    path
        A safetensors file that `save` wrote.

    Raises
    ------
    UserError
        If the file is missing, damaged, no checkpoint of mim3d, or of a newer version. Pickle files
        (PyTorch's `.pth` and `.ckpt` among them) are not opened: they can run any program.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}")
    if is_pickle(path):
        raise UserError(
            f"{path} is a pickle file (PyTorch's .pth or .ckpt), which can run any program when opened: "
            "only safetensors files are read"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(METADATA_KEY, "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not a safetensors file, or is damaged: {error}") from None
    if not isinstance(header, dict):
        raise UserError(
            f"{path} holds weights but not what mim3d needs to use them (metadata {METADATA_KEY!r})"
        )
    return _from_header(header, weights, path)


def is_pickle(path: Path) -> bool:
    """Tell by its first bytes whether a file is a pickle, bare or in PyTorch's zip archive."""
    with path.open("rb") as file:
        start = file.read(4)
    return start == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05")


def _from_header(header: dict[str, Any], weights: dict[str, Tensor], path: Path) -> Checkpoint:
    version = header.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version}; this mim3d reads up to {FORMAT_VERSION}: use a newer"
        )
    known = {item.name for item in fields(Checkpoint)} - {"weights"}
    if unknown := sorted(set(header) - known):
        raise UserError(f"{path}: unknown entries in its metadata: {', '.join(unknown)}")
    if missing := sorted({"network", "settings"} - set(header)):
        raise UserError(f"{path}: entries missing from its metadata: {', '.join(missing)}")
    # JSON knows lists alone.
    for name in ("fields", "static", "grid", "box_size"):
        if header.get(name) is not None:
            header[name] = tuple(header[name])
    return Checkpoint(weights=weights, **header)
