"""Other programs' weights into a checkpoint of mim3d."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mim3d.checkpoint import Checkpoint, is_pickle, save
from mim3d.compat import openstl, tensorflow
from mim3d.errors import UserError
from mim3d.nn import MIM, OpenSTLMIM


def convert(
    source: str | Path,
    target: str | Path,
    *,
    patch_size: int | None = None,
    grid: Sequence[int] | None = None,
    average: bool = False,
    input_length: int | None = None,
    num_frames: int | None = None,
) -> Checkpoint:
    """Convert a checkpoint of the original TensorFlow programs, MIM or 3D-MIM, or of OpenSTL's MIM.

    Number of layers, hidden channels, kernel, channels and layer normalisation are read off the shapes of
    the variables, the grid off the peepholes. What the original keeps on its command line alone is given.

    Parameters
    ----------
    source
        The TensorFlow checkpoint's prefix (`model.ckpt-7`), its `.index` or data file, or the folder that
        holds one; or OpenSTL's `.pth` or `.ckpt` file, of which nothing but tensors is read.
    target
        The safetensors file to write.
    patch_size
        `--patch_size` of the original; where left out it follows from `grid`, else it is 1.
    grid
        Voxels along each axis of a frame.
    average
        Take the exponential moving averages of the weights, which OpenSTL's files have not.
    input_length, num_frames
        `--input_length` and `--total_length` of the original, noted in the checkpoint.

    Returns
    -------
    Checkpoint
        What was written.

    Raises
    ------
    UserError
        If the source is missing, damaged or no such checkpoint, or `patch_size`, `grid` or `average` do not
        fit it.
    """
    source = Path(source)
    if source.is_file() and is_pickle(source):
        name, network, provenance = _from_openstl(source, patch_size, grid, average)
    else:
        name, network, provenance = _from_tensorflow(_prefix(source), patch_size, grid, average)
    checkpoint = Checkpoint(
        network=name,
        settings=network.settings,
        weights=network.state_dict(),
        grid=network.grid,
        input_length=input_length,
        num_frames=num_frames,
        provenance=provenance,
    )
    save(checkpoint, target)
    return checkpoint


def _from_tensorflow(
    prefix: Path, patch_size: int | None, grid: Sequence[int] | None, average: bool
) -> tuple[str, MIM, dict[str, Any]]:
    variables = tensorflow.read_checkpoint(prefix, average)
    network = MIM(**tensorflow.network_settings(variables, patch_size, grid))
    tensorflow.load_variables(network, variables)
    return (
        "mim",
        network,
        {
            "converted_from": prefix.name,
            "format": "TensorFlow checkpoint of MIM or 3D-MIM",
            "moving_average": average,
        },
    )


def _from_openstl(
    path: Path, patch_size: int | None, grid: Sequence[int] | None, average: bool
) -> tuple[str, MIM, dict[str, Any]]:
    if average:
        raise UserError(f"{path}: checkpoints of OpenSTL hold no moving averages")
    tensors = openstl.read_checkpoint(path)
    network = OpenSTLMIM(**openstl.network_settings(tensors, patch_size, grid))
    openstl.load_tensors(network, tensors)
    return (
        openstl.NETWORK,
        network,
        {"converted_from": path.name, "format": "PyTorch checkpoint of OpenSTL's MIM"},
    )


def _prefix(source: Path) -> Path:
    """Find the prefix of a TensorFlow bundle from any of its files, or its folder."""
    if source.is_dir():
        return _only(source, source, sorted(source.glob("*.index")))
    if source.is_file():
        prefix = Path(re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", str(source)))
        if prefix != source:
            return prefix
        raise UserError(
            f"{source} is not a TensorFlow checkpoint: give its prefix, for instance model.ckpt-7"
        )
    if Path(f"{source}.index").is_file():
        return source
    return _only(source, source.parent, sorted(source.parent.glob(f"{source.name}-*.index")))


def _only(source: Path, folder: Path, found: list[Path]) -> Path:
    """Take the only checkpoint there is."""
    if len(found) == 1:
        return found[0].with_suffix("")
    if not found:
        raise UserError(
            f"no TensorFlow checkpoint at {source}: there is no file {source.name}*.index in {folder}"
        )
    names = ", ".join(path.stem for path in found)
    raise UserError(f"several checkpoints at {source}, name one of them: {names}")
