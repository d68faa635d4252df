"""Operations and bytes of a network's step, counted from shapes alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from mim3d.nn import MIM, ForecastNetwork, MultiscaleMIM, UNet


@dataclass(frozen=True)
class Convolution:
    """One convolution that keeps its grid, or divides it by `stride`.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride
        As of `mim3d.nn.ConvNd`.
    grid
        Voxels along each axis of the output.
    """

    in_channels: int
    out_channels: int
    kernel_size: int
    grid: tuple[int, ...]
    stride: int = 1

    def flop(self, batch: int) -> int:
        """Multiplications and additions; the zeros of the padding count as values do."""
        kernel = self.kernel_size ** len(self.grid)
        return 2 * batch * self.in_channels * self.out_channels * kernel * prod(self.grid)

    def values(self, batch: int) -> int:
        """Numbers that it must read (input and weights, once) and write (output)."""
        kernel = self.kernel_size ** len(self.grid)
        read = self.in_channels * prod(self.stride * voxels for voxels in self.grid)
        weights = self.in_channels * self.out_channels * kernel
        return batch * (read + self.out_values()) + weights

    def out_values(self) -> int:
        """Numbers of the output of one sample."""
        return self.out_channels * prod(self.grid)


@dataclass(frozen=True)
class StepCost:
    """What one step of a network needs at least.

    Parameters
    ----------
    convolutions
        Every convolution of a step.
    not_first
        Those of them that rest in the first step of a sequence (MIM-N: there is no difference yet).
    state_values
        Numbers of the recurrent state of one sample.
    peephole_values
        Numbers of the peepholes.
    layer_norm
        Whether the recurrent core's convolutions are layer-normalised.
    """

    convolutions: tuple[Convolution, ...]
    not_first: tuple[Convolution, ...]
    state_values: int
    peephole_values: int
    layer_norm: bool

    def flop(self, batch: int, steps: int = 1) -> int:
        """Operations of the convolutions of the first `steps` steps; all else is below a hundredth."""
        every = sum(conv.flop(batch) for conv in self.convolutions)
        return steps * every - sum(conv.flop(batch) for conv in self.not_first)

    def bytes(self, batch: int, steps: int = 1, itemsize: int = 4) -> int:
        """Bytes to move in `steps` steps if all between two convolutions were one pass over memory.

        Convolutions read input and weights and write their output in `itemsize`; the pass that follows reads
        the outputs (twice with layer normalisation: statistics first), the old state and the peepholes, and
        writes the new state, the last three in float32.
        """
        convolutions = sum(conv.values(batch) for conv in self.convolutions)
        outputs = batch * sum(conv.out_values() for conv in self.convolutions)
        gates = outputs * (2 if self.layer_norm else 1)
        states = 2 * batch * self.state_values + self.peephole_values
        return steps * (itemsize * (convolutions + gates) + 4 * states)


def num_steps(network: ForecastNetwork, horizon: int) -> int:
    """Return the steps that a forecast of `horizon` frames takes after one frame."""
    return -(-horizon // network.output_length) if isinstance(network, UNet) else horizon


def step_cost(network: ForecastNetwork, grid: tuple[int, ...]) -> StepCost:
    """Count a step of a network on frames of `grid` voxels.

    Raises
    ------
    TypeError
        If nobody has counted this network yet.
    """
    if type(network) is MIM:
        coarse = tuple(voxels // network.patch_size for voxels in grid)
        volume = network.patch_size**network.num_axes
        around = [Convolution(network.hidden_channels[-1], volume * network.dynamic_channels, 1, coarse)]
        return _stack_cost(network, volume * network.in_channels, coarse, around)
    if type(network) is MultiscaleMIM:
        grids = [tuple(voxels // network.patch_size for voxels in grid)]
        for _ in network.encoder_channels[1:]:
            grids.append(tuple(voxels // 2 for voxels in grids[-1]))
        return _stack_cost(
            network, network.encoder_channels[-1], grids[-1], list(_around_core(network, grids))
        )
    if type(network) is UNet:
        return StepCost(tuple(_of_unet(network, grid)), (), 0, 0, network.layer_norm)
    raise TypeError(f"no count for {type(network).__name__}")


def _of_unet(network: UNet, grid: tuple[int, ...]) -> Iterator[Convolution]:
    stages = network.hidden_channels
    grids = [tuple(voxels // 2**depth for voxels in grid) for depth in range(len(stages))]
    image = network.image_channels
    down = zip(pairwise((image, *stages)), grids, strict=True)
    up = zip(pairwise(reversed(stages)), pairwise(reversed(grids)), strict=True)
    for (before, after), size in down:
        yield Convolution(before, after, network.kernel_size, size)
        yield Convolution(after, after, network.kernel_size, size)
    for (below, skip), (coarse, size) in up:
        yield Convolution(below, skip, 1, coarse)
        yield Convolution(2 * skip, skip, network.kernel_size, size)
        yield Convolution(skip, skip, network.kernel_size, size)
    yield Convolution(stages[0] + image, network.output_length * network.dynamic_channels, 1, grid)


def _around_core(network: MultiscaleMIM, grids: list[tuple[int, ...]]) -> Iterator[Convolution]:
    volume = network.patch_size**network.num_axes
    stages = network.encoder_channels
    for stage, (before, after) in enumerate(pairwise((volume * network.in_channels, *stages))):
        yield Convolution(before, after, network.kernel_size, grids[stage], 1 if stage == 0 else 2)
    below = network.hidden_channels[-1]
    for skip, grid in zip(reversed(stages), reversed(grids), strict=True):
        yield Convolution(below + skip, skip, network.kernel_size, grid)
        below = skip
    yield Convolution(stages[0], volume * network.dynamic_channels, network.kernel_size, grids[0])


def _stack_cost(
    network: MIM | MultiscaleMIM, in_channels: int, grid: tuple[int, ...], around: list[Convolution]
) -> StepCost:
    hidden, above = network.hidden_channels[0], len(network.hidden_channels) - 1

    def gates(count: int, channels: int = hidden) -> Convolution:
        return Convolution(channels, count * hidden, network.kernel_size, grid)

    reduce = Convolution(2 * hidden, hidden, 1, grid)
    spatiotemporal = [gates(4, in_channels), gates(4), gates(4), reduce]
    difference = [gates(4), gates(4)]
    block = [gates(4), gates(3), gates(4), *difference, reduce]
    voxels = prod(grid)
    positions = {"voxel": voxels, "channel": 1, "none": 0}[network.peephole]
    return StepCost(
        convolutions=(*around, *spatiotemporal, *(above * (difference + block))),
        not_first=tuple(above * difference),
        state_values=(3 + 5 * above) * hidden * voxels,
        peephole_values=2 * above * 3 * hidden * positions,
        layer_norm=network.layer_norm,
    )
