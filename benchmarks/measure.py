"""Measure one row in this process, which should be a fresh one: `python -m benchmarks.measure '{...}'`."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks import baseline, machine
from benchmarks.operations import StepCost, num_steps, step_cost
from benchmarks.rows import Row
from mim3d.machine import Precision, forecast_channels_last
from mim3d.nn import ForecastNetwork, OriginalAdam, RecurrentForecaster, build, set_channels_last

SOLVER_BYTES_PER_CELL = 4 * (3 * (5 + 5) + 5 + 5 + 1)
"""Of one step, in float32, each pass over memory done once: three sweeps read and write five variables, the
fastest signal reads five, cooling reads five and writes one."""

SOLVER_MYR = 0.004
"""How long the measured blast lasts."""


@dataclass(frozen=True)
class Options:
    """How to measure.

    Parameters
    ----------
    repeats
        Calls whose median counts.
    part
        Frames that are computed in place of all; times are scaled up by the share. 0: all.
    with_baseline
        Whether the plain loop is measured beside.
    limits
        Whether the machine's limits are measured beside.
    """

    repeats: int = 3
    part: int = 0
    with_baseline: bool = False
    limits: bool = True


def measure(row: Row, options: Options) -> dict[str, Any]:
    """Measure a row; see README.md for what the entries mean."""
    began = {
        "forecast": _forecast,
        "training": _training,
        "bundled": _bundled,
        "start": _start,
        "solver": _solver,
        "scaling": _scaling,
    }
    return {**row.to_dict(), **began[row.kind](row, options), "machine": machine.describe(row.device)}


def _network(row: Row) -> ForecastNetwork:
    torch.manual_seed(0)
    if row.settings:
        network = build(row.network, {**row.settings, "grid": list(row.grid)})
    else:
        from mim3d.forecasting import load

        network = load(row.network, "cpu").network
    return network.to(row.device)


def _draw_frames(row: Row, channels: int, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(row.batch, length, channels, *row.grid, generator=generator).to(row.device)


def _plain_loop(network: ForecastNetwork, frames: Tensor, steps: int) -> Callable[[], Tensor] | None:
    """Return a plain loop over the steps of a network that takes some."""
    if not isinstance(network, RecurrentForecaster):
        return None

    def loop() -> Tensor:
        with torch.inference_mode():
            return baseline.forecast(network, frames, steps)

    return loop


def _forecast(row: Row, options: Options) -> dict[str, Any]:
    horizon = row.frames - row.input_length
    steps = min(options.part or horizon, horizon)
    base = _memory_base(row)
    network = _network(row).eval()
    device, precision = torch.device(row.device), machine.DTYPES[row.precision]
    set_channels_last(network, forecast_channels_last("auto", device, precision))
    frames = _draw_frames(row, network.in_channels, row.input_length)
    guide = None
    if network.guided:
        guide = _draw_frames(row, network.dynamic_channels, network.guide_length(steps))

    def run(precision: str = row.precision) -> Tensor:
        with torch.inference_mode(), machine.in_precision(precision, row.device):
            return network.forecast(frames, steps, guide=guide)

    output = run()
    result = {**_memory(row, base), **_part(steps, horizon)}
    result |= _times(row, options, run, _plain_loop(network, frames, steps))
    if row.precision != "float32":
        result["error"] = _difference(output, run("float32"))
    cost = step_cost(network, row.grid)
    all_steps = row.input_length + steps - 1
    counted = num_steps(network, all_steps)
    result |= _against_limits(row, options, cost, counted, result["seconds_of_part"], passes=1)
    if row.device != "cpu":
        result["launches"] = _launches(run)
    return _scaled_up(result, all_steps, row.frames - 1)


def _training(row: Row, options: Options) -> dict[str, Any]:
    steps = min(options.part or row.frames - 1, row.frames - 1)
    base = _memory_base(row)
    network = _network(row).train()
    assert isinstance(network, RecurrentForecaster)
    frames = _draw_frames(row, network.in_channels, steps + 1)
    input_length = min(row.input_length, steps)
    optimizer = OriginalAdam(network.parameters())

    def descend(forecast: Callable[[], Tensor], precision: str) -> None:
        optimizer.zero_grad()
        with machine.in_precision(precision, row.device):
            loss = 0.5 * (forecast() - frames[:, 1:]).square().sum() / row.batch
        loss.backward()
        optimizer.step()

    def run() -> None:
        descend(lambda: network.unroll(frames, input_length, None, row.recompute), row.precision)

    def plain() -> None:
        descend(lambda: baseline.unroll(network, frames, input_length), "float32")

    # The first step makes the optimiser's state, so the second has all that any later one has.
    run()
    run()
    result = {**_memory(row, base), **_part(steps, row.frames - 1)}
    result |= _times(row, options, run, plain)
    cost = step_cost(network, row.grid)
    passes = 4 if row.recompute else 3
    result |= _against_limits(row, options, cost, steps, result["seconds_of_part"], passes)
    if row.precision != "float32":
        result["error"] = _gradient_difference(row, network, frames, input_length)
    if row.device != "cpu":
        result["launches"] = _launches(run)
    return _scaled_up(result, steps, row.frames - 1)


def _bundled(row: Row, options: Options) -> dict[str, Any]:
    from mim3d.data import well
    from mim3d.forecasting import example_path, load
    from mim3d.report import compare

    base = _memory_base(row)
    cloud = well.read(example_path())
    wanted: set[Precision] = {row.precision, "float32"}
    forecasters = {precision: load(row.network, row.device, precision) for precision in wanted}
    forecaster = forecasters[row.precision]
    horizon = row.frames - row.input_length

    def run(precision: Precision = row.precision) -> Any:
        return forecasters[precision].forecast(cloud, horizon)

    forecast = run()
    frames = _draw_frames(row, forecaster.network.in_channels, row.input_length)
    plain = _plain_loop(forecaster.network, frames, horizon)
    result = _memory(row, base) | _times(row, options, run, plain)
    steps = num_steps(forecaster.network, horizon)
    result |= _against_limits(
        row, options, step_cost(forecaster.network, row.grid), steps, result["seconds_of_part"], passes=1
    )
    scores = compare(forecast, cloud).scores
    assert scores is not None
    result["truth_error_dex"] = float(scores["mid_plane_error"][-1])
    if row.precision != "float32":
        exact = run("float32")
        result["error"] = _difference(
            *(torch.from_numpy(np.log10(item.trajectory.fields["density"])) for item in (forecast, exact))
        )
    if row.device != "cpu":
        result["launches"] = _launches(run)
    return _scaled_up(result, 1, 1)


_START_PROGRAM = """
from benchmarks import machine
import mim3d
from mim3d.data import well
from mim3d.forecasting import example_path
mim3d.load({model!r}, {device!r}).forecast(well.read(example_path()), {steps})
print(machine.peak_bytes())
"""


def _start(row: Row, options: Options) -> dict[str, Any]:
    program = _START_PROGRAM.format(model=row.network, device=row.device, steps=row.frames - row.input_length)
    peaks = []

    def run() -> None:
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout.split()[-1]))

    result = _times(row, options, run, None)
    result["peak_bytes"] = max(peaks)
    return _scaled_up(result, 1, 1)


def _solver(row: Row, options: Options) -> dict[str, Any]:
    from mim3d.supernova import simulation
    from mim3d.supernova.blast import explode
    from mim3d.supernova.cooling import CoolingCurve
    from mim3d.supernova.units import MSUN_KMS2_PER_ERG

    base = _memory_base(row)
    cloud = simulation.CloudSettings(grid=row.grid[0], voxels=row.grid[0], mach_number=0.0)
    curve = CoolingCurve(cloud.temperature).to(row.device)
    gas = simulation.turbulent_clouds([cloud] * row.batch, row.device)
    blast = torch.stack(
        [
            explode(
                state,
                cloud.cell_width,
                (cloud.box_size / 2,) * 3,
                cloud.explosion_energy * MSUN_KMS2_PER_ERG,
                cloud.heated_mass,
            )
            for state in gas
        ]
    )

    def run() -> None:
        for _ in simulation.evolve(blast, (SOLVER_MYR,), cloud.cell_width, curve):
            pass

    with mock.patch.object(simulation, "advance", wraps=simulation.advance) as advance:
        run()
    cells = row.batch * row.grid[0] ** 3 * advance.call_count
    result = _memory(row, base) | _times(row, options, run, None)
    result["cells_per_second"] = cells / result["seconds_of_part"]
    result["bytes"] = SOLVER_BYTES_PER_CELL * cells
    if options.limits:
        result["copy_bytes_per_second"] = machine.copy_bytes_per_second(row.device)
        floor = result["bytes"] / result["copy_bytes_per_second"]
        result["fraction_of_copy"] = floor / result["seconds_of_part"]
    if row.device != "cpu":
        result["launches"] = _launches(run)
    return _scaled_up(result, 1, 1)


def _scaling(row: Row, options: Options) -> dict[str, Any]:
    """Train the same recipe with one process and with two; steps per second from the times of its log."""
    from benchmarks.scaling import train_with

    with tempfile.TemporaryDirectory() as folder:
        one = train_with(Path(folder), processes=1, threads=1, row=row)
        wide = train_with(Path(folder), processes=1, threads=2, row=row)
        two = train_with(Path(folder), processes=2, threads=1, row=row)
    curves = np.array([one.losses, two.losses])
    return {
        "seconds": 1 / two.steps_per_second,
        "steps_per_second": {
            "1 process, 1 thread": one.steps_per_second,
            "1 process, 2 threads": wide.steps_per_second,
            "2 processes, 1 thread each": two.steps_per_second,
        },
        "speed_up": two.steps_per_second / one.steps_per_second,
        "largest_relative_difference_of_losses": float(np.max(np.abs(curves[1] / curves[0] - 1))),
        "losses": curves.tolist(),
    }


def _times(
    row: Row, options: Options, run: Callable[[], object], plain: Callable[[], object] | None
) -> dict[str, Any]:
    """Time a function, in turn with the plain loop where that is wanted: both see the same machine."""
    own: list[float] = []
    others: list[float] = []
    with_plain = plain if options.with_baseline else None
    for _ in range(options.repeats):
        own.append(machine.seconds(run, row.device))
        if with_plain is not None:
            others.append(machine.seconds(with_plain, row.device))
    result: dict[str, Any] = {"seconds_of_part": statistics.median(own), "all_seconds": own}
    if others:
        result["baseline_seconds_of_part"] = statistics.median(others)
        result["times_baseline"] = statistics.median(others) / statistics.median(own)
    return result


def _against_limits(
    row: Row, options: Options, cost: StepCost, steps: int, seconds: float, passes: int
) -> dict[str, Any]:
    """Operations and bytes, and what share of the machine's limits they reach.

    `passes` is how often the arithmetic of a forecast is done: once; in training three times (the
    gradients of inputs and of weights cost as much each), and once more with checkpointing over time.
    """
    flop = passes * cost.flop(row.batch, steps)
    traffic = passes * cost.bytes(row.batch, steps, 4 if row.precision == "float32" else 2)
    result: dict[str, Any] = {"flop": flop, "bytes": traffic, "flop_per_second": flop / seconds}
    if options.limits:

        def alone(backward: bool) -> float:
            every, resting = (
                machine.convolution_seconds(
                    some, row.batch, row.precision, row.device, backward, options.repeats
                )
                for some in (cost.convolutions, cost.not_first)
            )
            return steps * every - resting

        limit = alone(backward=passes > 1) + (alone(backward=False) if passes == 4 else 0.0)
        result["convolution_seconds"] = limit
        result["fraction_of_convolutions"] = limit / seconds
        result["copy_bytes_per_second"] = machine.copy_bytes_per_second(row.device)
        result["fraction_of_copy"] = traffic / result["copy_bytes_per_second"] / seconds
        result["matrix_flop_per_second"] = machine.matrix_flop_per_second(row.precision, row.device)
        result["fraction_of_matrix"] = result["flop_per_second"] / result["matrix_flop_per_second"]
    return result


def _scaled_up(result: dict[str, Any], done: int, total: int) -> dict[str, Any]:
    """Scale what was measured on a part of the frames up to all of them."""
    share = total / done
    for name in ("seconds", "baseline_seconds"):
        if f"{name}_of_part" in result:
            result[name] = share * result[f"{name}_of_part"]
    for name in ("flop", "bytes", "launches"):
        if name in result:
            result[name] = round(share * result[name])
    return result


def _part(done: int, total: int) -> dict[str, Any]:
    return {"measured": f"{done} of {total} frames"} if done < total else {}


def _memory_base(row: Row) -> int:
    if row.device != "cpu":
        torch.cuda.reset_peak_memory_stats(row.device)
    machine.forget_peak()
    return machine.resident_bytes()


def _memory(row: Row, base: int) -> dict[str, Any]:
    peak = machine.peak_bytes()
    memory = {"peak_bytes": peak, "bytes_over_base": peak - base}
    if row.device != "cpu":
        memory["gpu_peak_bytes"] = torch.cuda.max_memory_allocated(row.device)
    return memory


def _difference(found: Tensor, exact: Tensor) -> dict[str, float]:
    """Compare a forecast with the one in float32; the mean square difference is given over the spread."""
    difference = found.double() - exact.double()
    return {
        "largest": float(difference.abs().max()),
        "relative_rms": float(difference.square().mean().sqrt() / exact.double().std()),
    }


def _gradient_difference(
    row: Row, network: RecurrentForecaster, frames: Tensor, input_length: int
) -> dict[str, float]:
    """Compare all gradients together with those in float32, of the same weights."""
    both = []
    for precision in (row.precision, "float32"):
        network.zero_grad()
        with machine.in_precision(precision, row.device):
            outputs = network.unroll(frames, input_length, None, row.recompute)
            loss = 0.5 * (outputs - frames[:, 1:]).square().sum() / row.batch
        loss.backward()
        both.append(
            torch.cat([p.grad.flatten().double() for p in network.parameters() if p.grad is not None])
        )
    network.zero_grad()
    found, exact = both
    return {"gradient_relative_norm": float((found - exact).norm() / exact.norm())}


def _launches(run: Callable[[], object]) -> int:
    """Count the kernels that a GPU was given."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    events = profiler.events() or []
    return sum(event.device_type.name == "CUDA" for event in events)


def main() -> None:
    """Measure the row that the first argument describes and print it as one line of JSON."""
    request = json.loads(sys.argv[1])
    if threads := request["threads"]:
        torch.set_num_threads(threads)
    began = time.perf_counter()
    result = measure(Row.from_dict(request["row"]), Options(**request["options"]))
    result["wall_seconds"] = time.perf_counter() - began
    print(json.dumps(result), flush=True)
    # Libraries may start threads that outlive them; there is nothing left to do here.
    os._exit(0)


if __name__ == "__main__":
    main()
