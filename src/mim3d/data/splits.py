"""Division of runs into those to train on, to validate on and to test on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mim3d.errors import UserError

SPLITS = ("train", "validation", "test")


def split_of(
    names: Sequence[str], fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), seed: int = 0
) -> list[str]:
    """Say for every run to which part it belongs.

    Whole runs are divided, never their frames, so nothing of a run to be judged on is seen in training. The
    part follows from a hash of the run's name: runs that are added later leave those that are there in their
    parts. Where a wanted part would be empty (few runs), it is given the run whose hash is nearest.

    Parameters
    ----------
    names
        A name for every run, all different.
    fractions
        Shares of train, validation and test; they sum to 1, and none or some may be 0.
    seed
        Another seed, another division.

    Returns
    -------
    list of str
        `"train"`, `"validation"` or `"test"` for every name.

    Raises
    ------
    UserError
        If the fractions are unusable, names repeat, or there are fewer runs than parts.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise UserError(f"shares of train, validation and test must be >= 0 and sum to 1, found {fractions}")
    if len(set(names)) != len(names):
        raise UserError(
            "two runs have the same name; runs are told apart by their names when they are divided"
        )
    wanted = [part for part, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0]
    if len(names) < len(wanted):
        raise UserError(
            f"{len(names)} runs cannot be divided into {', '.join(wanted)}; give more, or set shares to 0"
        )
    test, validation = fractions[2], fractions[1]
    position = {name: _position(name, seed) for name in names}
    part_of = {
        name: "test" if where < test else "validation" if where < test + validation else "train"
        for name, where in position.items()
    }
    if fractions[0] == 0:
        # Rounding of the sum must not leave a run in a part that is not wanted.
        part_of = {name: wanted[-1] if part == "train" else part for name, part in part_of.items()}
    for part in wanted:
        if part not in part_of.values():
            largest = max(wanted, key=lambda other: list(part_of.values()).count(other))
            lower = {"test": 0.0, "validation": test, "train": 1.0}[part]
            spare = [name for name, other in part_of.items() if other == largest]
            part_of[min(spare, key=lambda name: abs(position[name] - lower))] = part
    return [part_of[name] for name in names]


def _position(name: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on nothing but the name and the seed."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
