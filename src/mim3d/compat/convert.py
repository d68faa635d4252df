"""Other programs' weights into a checkpoint of mim3d."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mim3d.checkpoint import Checkpoint, is_pickle, save
from mim3d.compat import tensorflow
from mim3d.errors import UserError
from mim3d.nn import MIM


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
    """Convert a checkpoint of the original TensorFlow programs, MIM or 3D-MIM.

    Number of layers, hidden channels, kernel, channels and layer normalisation are read off the shapes of
    the variables, the grid off the peepholes. What the original keeps on its command line alone is given.

    Parameters
    ----------
    source
        The checkpoint's prefix (`model.ckpt-7`), its `.index` or data file, or the folder that holds one.
    target
        The safetensors file to write.
    patch_size
        `--patch_size` of the original; where left out it follows from `grid`, else it is 1.
    grid
        Voxels along each axis of a frame.
    average
        Take the exponential moving averages of the weights.
    input_length, num_frames
        `--input_length` and `--total_length` of the original, noted in the checkpoint.

    Returns
    -------
    Checkpoint
        What was written.

    Raises
    ------
    UserError
        If the source is missing, damaged or no such checkpoint, or `patch_size` or `grid` do not fit it.
    """
    prefix = _prefix(Path(source))
    variables = tensorflow.read_checkpoint(prefix, average)
    settings = tensorflow.network_settings(variables, patch_size, grid)
    network = MIM(**settings)
    tensorflow.load_variables(network, variables)
    checkpoint = Checkpoint(
        network="mim",
        settings=network.settings,
        weights=network.state_dict(),
        grid=network.grid,
        input_length=input_length,
        num_frames=num_frames,
        provenance={
            "converted_from": prefix.name,
            "format": "TensorFlow checkpoint of MIM or 3D-MIM",
            "moving_average": average,
        },
    )
    save(checkpoint, target)
    return checkpoint


def _prefix(source: Path) -> Path:
    """Find the prefix of a TensorFlow bundle from any of its files, or its folder."""
    if source.is_dir():
        return _only(source, source, sorted(source.glob("*.index")))
    if source.is_file():
        prefix = Path(re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", str(source)))
        if prefix != source:
            return prefix
        if is_pickle(source):
            raise UserError(
                f"{source} is a pickle file (PyTorch's .pth or .ckpt), which is not read because it can run "
                "any program when opened; give a TensorFlow checkpoint (model.ckpt-N.index and its data file)"
            )
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
