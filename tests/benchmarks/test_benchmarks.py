"""Counts against PyTorch's own, the plain loop against the network, and a row from end to end."""

import json

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import baseline
from benchmarks.__main__ import main
from benchmarks.measure import SOLVER_BYTES_PER_CELL, Options, measure
from benchmarks.operations import Convolution, num_steps, step_cost
from benchmarks.rows import Row, all_rows
from benchmarks.table import exponents
from mim3d.machine import computes_bfloat16
from mim3d.nn import build

NETWORKS = {
    "mim-3d": ("mim", {"in_channels": 1, "num_axes": 3, "hidden_channels": [4] * 3, "kernel_size": 5}),
    "mim-2d": ("mim", {"in_channels": 2, "num_axes": 2, "hidden_channels": [8] * 2, "patch_size": 2}),
    "multiscale": (
        "multiscale-mim",
        {
            "in_channels": 3,
            "num_axes": 3,
            "hidden_channels": [4] * 2,
            "encoder_channels": [4, 6],
            "static_channels": 1,
        },
    ),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    name, settings = NETWORKS[request.param]
    torch.manual_seed(0)
    made = build(name, {**settings, "grid": [8] * settings["num_axes"]})
    with torch.no_grad():
        for parameter in made.parameters():
            # Peepholes per channel start at zero, which would hide them.
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def frames_for(network, length, batch=2):
    return torch.rand(batch, length, network.in_channels, *network.grid)


def counted(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_operations_of_a_step_are_those_that_pytorch_counts(network):
    frame = frames_for(network, 1)[:, 0]
    cost = step_cost(network, network.grid)
    _, state = network.step(frame)
    assert counted(lambda: network.step(frame, state)) == cost.flop(2, 2) - cost.flop(2, 1)


def test_operations_of_a_u_net_are_those_that_pytorch_counts():
    network = build(
        "unet", {"in_channels": 3, "num_axes": 3, "hidden_channels": [4, 5, 6], "static_channels": 1}
    )
    frames = torch.rand(2, 1, 3, 8, 8, 8)
    assert counted(lambda: network.forecast(frames, 19)) == step_cost(network, (8, 8, 8)).flop(2)
    assert [num_steps(network, horizon) for horizon in (1, 19, 20)] == [1, 1, 2]


def test_one_more_step_of_training_costs_three_of_a_forecast(network):
    def training(length):
        return counted(lambda: network.unroll(frames_for(network, length), 1).square().sum().backward())

    cost = step_cost(network, network.grid)
    # At the ends of a sequence some gradients are not needed.
    assert training(5) - training(4) == 3 * (cost.flop(2, 2) - cost.flop(2, 1))


def test_the_plain_loop_computes_what_the_network_does(network):
    frames = frames_for(network, 4)
    with torch.no_grad():
        for length, steps in ((1, 3), (2, 2)):
            own = network.forecast(frames[:, :length], steps)
            torch.testing.assert_close(
                baseline.forecast(network, frames[:, :length], steps), own, rtol=1e-4, atol=1e-4
            )
        torch.testing.assert_close(
            baseline.unroll(network, frames, 2), network.unroll(frames, 2), rtol=1e-4, atol=1e-4
        )


def test_counts_of_one_convolution():
    conv = Convolution(3, 5, 3, (4, 4), stride=2)
    assert conv.flop(2) == 2 * 2 * 3 * 5 * 9 * 16
    assert conv.values(2) == 2 * (3 * 64 + 5 * 16) + 3 * 5 * 9


def test_names_of_rows_are_unique_and_survive_json():
    for device in ("cpu", "cuda"):
        rows = all_rows(device)
        assert len({row.name for row in rows}) == len(rows)
        assert [Row.from_dict(json.loads(json.dumps(row.to_dict()))) for row in rows] == rows


@pytest.mark.parametrize("kind", ["forecast", "training"])
def test_a_part_of_the_frames_is_scaled_up(kind):
    settings = {"in_channels": 1, "hidden_channels": [2, 2], "kernel_size": 3, "num_axes": 2}
    row = Row("r", kind, settings, grid=(8, 8), frames=7, precision="bfloat16")
    options = Options(repeats=1, part=2, with_baseline=True, limits=False)
    result = measure(row, options)
    assert result["measured"] == "2 of 6 frames"
    assert result["seconds"] == pytest.approx(3 * result["seconds_of_part"])
    assert result["times_baseline"] > 0
    error = result["error"]["relative_rms" if kind == "forecast" else "gradient_relative_norm"]
    assert 0 < error < 0.2


def test_exponents_are_the_slopes():
    sizes = (1, 2, 4, 8)
    points = [{"series": "voxels", "size": n, "seconds": 3.0 * n**1.5, "bytes_over_base": 7.0} for n in sizes]
    assert exponents(points)["voxels"] == pytest.approx({"seconds": 1.5, "bytes_over_base": 0.0})
    assert exponents(points[:1]) == {}


def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys):
    target = tmp_path / "b.json"
    rows = ["--rows", "growth/batch/1", "growth/batch/4"]
    assert main(["--quick", "--device=cpu", *rows, "--repeats=1", "--no-limits", f"--json={target}"]) == 0
    out = capsys.readouterr().out
    assert "growth/batch/4" in out
    assert "growth with batch: time" in out
    record = json.loads(target.read_text())
    one, four = record["rows"]
    assert four["flop"] == 4 * one["flop"]
    assert one["machine"]["threads"] >= 1
    assert np.isfinite(record["exponents"]["batch"]["seconds"])


def test_the_solver_s_row_counts_its_cells():
    (row,) = [row for row in all_rows("cpu", quick=True) if row.kind == "solver"]
    result = measure(row, Options(repeats=1, part=0, with_baseline=False, limits=False))
    steps = result["bytes"] / SOLVER_BYTES_PER_CELL / 16**3
    assert steps == int(steps) > 0
    assert result["cells_per_second"] == pytest.approx(steps * 16**3 / result["seconds"])


def test_a_bundled_network_alone_is_fed_a_guide():
    # Without hardware for it, bfloat16 takes an hour.
    is_half = computes_bfloat16(torch.device("cpu"))
    precision = "bfloat16" if is_half else "float32"
    row = Row(f"sn32/batch-2/{precision}", "forecast", network="sn32", batch=2, precision=precision)
    result = measure(row, Options(repeats=1, part=0, with_baseline=True, limits=False))
    assert result["seconds"] > 0
    assert ("error" in result) is is_half
    if is_half:
        assert result["error"]["relative_rms"] < 0.05
    # There is no loop over its steps to compare with.
    assert "baseline_seconds" not in result
