"""What a file holds, in a few lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy import units as u

from mim3d import checkpoint as checkpoints
from mim3d import data
from mim3d.checkpoint import bundled_models
from mim3d.data import well
from mim3d.data.files import existing
from mim3d.errors import UserError
from mim3d.fields import unit_name
from mim3d.trust import Guard
from mim3d.trust.gas import QUANTITIES


def describe(path: str | Path) -> list[tuple[str, str]]:
    """Say what a file or a bundled model holds.

    Parameters
    ----------
    path
        A checkpoint, the name of a bundled model, The Well's HDF5, npz samples or a snapshot of particles.

    Returns
    -------
    list of (str, str)
        What, and its value.

    Raises
    ------
    UserError
        If it is none of these, or damaged.
    """
    for bundled in bundled_models():
        if str(path) == bundled.stem:
            return list(_checkpoint(bundled))
    path = existing(path)
    if path.suffix == ".safetensors":
        return list(_checkpoint(path))
    kind = data.kind(path)
    return list({"well": _well, "original": _samples, "snapshot": _snapshot}[kind](path))


def _checkpoint(path: Path) -> Iterator[tuple[str, str]]:
    checkpoint = checkpoints.read(path)
    weights = sum(tensor.numel() for tensor in checkpoint.weights.values())
    yield "checkpoint", f"{path} ({path.stat().st_size / 1e6:.1f} MB)"
    yield "network", f"{checkpoint.network}, {weights / 1e6:.2f} million weights"
    for name, value in checkpoint.settings.items():
        yield f"  {name}", str(value)
    if checkpoint.fields:
        yield (
            "forecasts",
            ", ".join(_with_unit(name, checkpoint.units.get(name)) for name in checkpoint.fields),
        )
    if checkpoint.static:
        yield "is given", ", ".join(checkpoint.static)
    if checkpoint.settings.get("guided"):
        yield "corrects", "what the gas solver makes of the input"
    if checkpoint.grid:
        yield "grid", " x ".join(str(n) for n in checkpoint.grid)
    if checkpoint.box_size:
        yield "box", " x ".join(f"{side:g}" for side in checkpoint.box_size) + " pc"
    if checkpoint.time_step:
        yield "time step", f"{checkpoint.time_step:.6g} Myr"
    if checkpoint.input_length:
        total = f" of {checkpoint.num_frames} in training" if checkpoint.num_frames else ""
        yield "input frames", f"{checkpoint.input_length}{total}"
    guard = Guard.from_dict(checkpoint.guard) if checkpoint.guard else None
    yield "guard", "none" if guard is None else f"fitted to {guard.clouds[0]} clouds"
    if guard is not None:
        for name, (low, high) in guard.ranges.items():
            span = " to ".join(dict.fromkeys((f"{low:.3g}", f"{high:.3g}")))
            yield f"trained on {name}", f"{span} {QUANTITIES[name].unit}".strip()
    yield (
        "spread",
        f"calibrated for {', '.join(checkpoint.spread)}" if checkpoint.spread else "not calibrated",
    )
    for name, value in checkpoint.provenance.items():
        text = str(value)
        yield name.replace("_", " "), text if len(text) <= 300 else text[:297] + "..."


def _well(path: Path) -> Iterator[tuple[str, str]]:
    with well.open(path) as file:
        yield "file", f"{path} (The Well's layout)"
        yield "runs", str(file.count)
        yield "grid", " x ".join(str(n) for n in file.grid)
        box, origin = file.box()
        corner = ", ".join(f"{x:g}" for x in origin)
        yield "box", f"{' x '.join(f'{side:g}' for side in box)}{_unit(file, 'length')}, from ({corner})"
        times = file.times()
        yield "frames", f"{len(times)}, times {times[0]:.5g} to {times[-1]:.5g}{_unit(file, 'time')}"
        yield "boundary", file.boundary
        for name, dataset in file.fields.items():
            unit = dataset.attrs.get("units")
            values = np.asarray(file.frames(name, 0, slice(0, 1)))
            span = f"{values.min():.4g} to {values.max():.4g} in the first frame"
            yield f"field {name}", f"{_text(unit) if unit is not None else 'no unit'}, {span}"
        yield "twin without explosion", ", ".join(file.twin_fields) or "none"
        for name, value in file.parameters().items():
            yield name.replace("_", " "), f"{value:.6g}".strip()


def _samples(path: Path) -> Iterator[tuple[str, str]]:
    samples = data.original.read(path)
    yield "file", f"{path} (npz samples of the original programs)"
    yield "sequences", str(len(samples))
    yield "channels", str(samples.dims[0])
    yield "grid", " x ".join(str(n) for n in samples.dims[1:])
    if len(samples):
        yield "frames", f"{len(samples[0])} a sequence, {samples.input_length()} of them input"


def _snapshot(path: Path) -> Iterator[tuple[str, str]]:
    import h5py

    yield "file", f"{path} (snapshot of particles)"
    with h5py.File(path, "r", locking=False) as file:
        gas = file["PartType0"]
        assert isinstance(gas, h5py.Group)
        yield "gas", ", ".join(f"{name} {getattr(item, 'shape', '')}" for name, item in gas.items())
        if "Header" in file:
            header = file["Header"]
            for name in ("NumPart_ThisFile", "BoxSize", "Time", "Redshift"):
                if name in header.attrs:
                    yield name, str(header.attrs[name])


def _unit(file: well.WellFile, name: str) -> str:
    """Name a unit, with a space before; nothing where the file gives none or plain numbers."""
    try:
        return f" {unit_name(file.unit(name))}" if file.unit(name) != u.dimensionless_unscaled else ""
    except UserError:
        return ""


def _with_unit(name: str, unit: str | None) -> str:
    return f"{name} [{unit.replace('solMass', 'Msun')}]" if unit else name


def _text(value: object) -> str:
    text = value.decode() if isinstance(value, bytes) else str(value)
    return text.replace("solMass", "Msun") or "dimensionless"
