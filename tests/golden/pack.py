"""Repack recorded vectors of the original programs so that they fit beside the tests.

    python tests/golden/pack.py FOLDER

FOLDER holds the recordings (`g2d_a.npz`, ..., `t2d.npz`, `m2d_misc.npz`, `adam_unit.npz`,
`checkpoint2d/`, ...) as they came out of the original programs; README.md says what ends up here. All is kept
exactly but for the gradients, of which every variable keeps 256 elements, and the changes of variables in
training, which are rounded to half precision.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np

SAMPLE_SIZE = 256
MISC = ("ss/eta", "ss/token", "ss_default/itr", "ss_default/eta")


def main(source: Path, target: Path) -> None:
    """Repack all files of `source` that the tests use."""
    for path in sorted(source.glob("g[23]d_*.npz")):
        np.savez_compressed(target / path.name, **pack_case(np.load(path)))
    for name in ("t2d.npz", "t3d.npz"):
        np.savez_compressed(target / name, **pack_training(np.load(source / name)))
    for name in ("m2d_misc.npz", "m3d_misc.npz"):
        np.savez_compressed(target / name, **pack_misc(np.load(source / name)))
    np.savez_compressed(target / "adam_unit.npz", **pack_adam(np.load(source / "adam_unit.npz")))
    for name in ("checkpoint2d", "checkpoint3d"):
        (target / name).mkdir(exist_ok=True)
        for path in (source / name).iterdir():
            shutil.copyfile(path, target / name / path.name)


def pack_case(case: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
    """Forward and gradient vectors of one network."""
    meta = json.loads(str(case["meta"]))
    variables = {name: case[f"var/{name}"] for name in meta["var_order"]}
    packed = {
        "frames": case["frames_raw"],
        "token": case["token"],
        "outputs": case["gen_images"],
        "outputs_zero_mask": case["gen_images_zeromask"],
        "loss": np.array([case["loss"], case["loss_zeromask"]]),
        **pack_variables(variables),
    }
    packed |= {name: case[name] for name in case.files if name.startswith("inter/")}
    if meta["grad"]:
        gradients = [case[f"grad/{name}"].ravel() for name in variables]
        packed["gradient_sample"] = np.concatenate(
            [gradient[sample(gradient.size)] for gradient in gradients]
        )
        packed["gradient_norm"] = np.array(
            [np.linalg.norm(gradient.astype(np.float64)) for gradient in gradients]
        )
        packed["gradient_max"] = np.array([np.abs(gradient).max() for gradient in gradients])
    settings = {name: meta[name] for name in ("input_length", "grid", "patch_size")}
    packed["meta"] = describe(settings, variables)
    return packed


def pack_variables(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Variables as 16-bit multiples of 2^-10, high and low bytes apart because they compress so."""
    values = np.concatenate([array.ravel() for array in variables.values()]) * 2**10
    integers = values.astype(np.int16)
    if not np.array_equal(integers, values):
        raise ValueError("a variable is not a 16-bit multiple of 2^-10")
    return {
        "variables_high": (integers >> 8).astype(np.int8),
        "variables_low": (integers & 0xFF).astype(np.uint8),
    }


def pack_training(case: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
    """Three steps of the optimiser."""
    meta = json.loads(str(case["meta"]))
    variables = {name: case[f"var0/{name}"] for name in meta["var_order"]}
    start = np.concatenate([array.ravel() for array in variables.values()])
    packed = {
        "frames": case["frames_raw"],
        "token": case["token"],
        "start": start,
        "loss": case["read_first/loss_train"],
    }
    for step in (1, 3):
        end = np.concatenate([case[f"read_first/var{step}/{name}"].ravel() for name in variables])
        packed[f"change{step}"] = (end - start).astype(np.float16)
    settings = {name: meta[name] for name in ("input_length", "patch_size", "lr")}
    packed["meta"] = describe(settings, variables)
    return packed


def pack_misc(case: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
    """Patching and the schedule of scheduled sampling."""
    packed = {name: case[name] for name in case.files if name.startswith("patch") or name in MISC}
    return packed | {"meta": np.array(json.dumps(json.loads(str(case["meta"]))["ss"]))}


def pack_adam(case: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
    """Optimiser alone, with the step counter read before it is increased."""
    return {name: case[name] for name in case.files if "add_first" not in name}


def sample(size: int) -> np.ndarray:
    """Indices of the elements that are kept of an array."""
    return np.sort(np.random.RandomState(0).permutation(size)[:SAMPLE_SIZE])


def describe(settings: dict, variables: dict[str, np.ndarray]) -> np.ndarray:
    """Settings, and names and shapes of the variables, as JSON."""
    shapes = {name: list(array.shape) for name, array in variables.items()}
    return np.array(json.dumps(settings | {"shapes": shapes}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
