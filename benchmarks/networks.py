"""Which network forecasts best after equal computing time: `python -m benchmarks.networks --data sims/`.

All see the same clips with the same loss, optimiser and moving average, one after the other in one process.
A training ends when its process has computed for the given time, whatever else the machine was doing, and its
learning rate falls along a cosine of that time; so nobody has to know beforehand how many steps fit.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel

from mim3d.training import Recipe, load_recipe
from mim3d.training.data_module import BatchStream, ForecastDataModule
from mim3d.training.losses import ForecastLoss
from mim3d.training.module import moving_average
from mim3d.training.run import build_network
from mim3d.training.validation import ValidationScores

NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {"hidden_channels": [32, 64, 128, 128], "kernel_size": 3, "layer_norm": False},
    "bundled-mim": {"hidden_channels": [48, 48], "encoder_channels": [32, 32], "frames_per_step": 5},
    "multiscale-mim": {"hidden_channels": [32, 32], "encoder_channels": [32, 32]},
    "convlstm": {"hidden_channels": [64, 64], "kernel_size": 3, "patch_size": 2},
    "predrnn": {"hidden_channels": [48, 48], "kernel_size": 3, "patch_size": 2},
    "fno": {"hidden_channels": 24, "modes": 12, "layers": 4},
}
"""Settings, of sizes that two cores can train."""

SHARED = {"residual": True}


def main(arguments: list[str] | None = None) -> None:
    """Train each network for the same time, print and write what it scores on the validation runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("--data", required=True, help="folder of runs with density, temperature and velocity")
    parser.add_argument("--minutes", type=float, default=6, help="of computing, each (6)")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--static", nargs="+", default=["site", "drift", "velocity"], help="given channels")
    parser.add_argument("--json", type=Path, default=Path("benchmarks-networks.json"))
    parser.add_argument("--window", type=int, default=24, help="voxels that training clips are cut to (24)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recipe = load_recipe(
        "sn32",
        [
            f"--data.folder={options.data}",
            "--data.fields=[density, affected]",
            "--loss.channel_weights={}",
            "--network.settings.guided=false",
        ],
    )
    recipe = replace(recipe, data=replace(recipe.data, static=tuple(options.static), window=options.window))
    data = ForecastDataModule(recipe)
    data.setup("fit")
    results = []
    for name in options.networks:
        results.append(_train(name, recipe, data, 60 * options.minutes))
        print(json.dumps(results[-1]), flush=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _train(name: str, recipe: Recipe, data: ForecastDataModule, seconds: float) -> dict[str, Any]:
    network = build_network(
        replace(recipe, network=replace(recipe.network, name=name, settings={**NETWORKS[name], **SHARED})),
        len(data.training.channels),
        data.training.grid,
        len(data.static),
    )
    loss_of = ForecastLoss(data.channels, recipe.loss.kind, {}, recipe.loss.site_weight, data.static)
    optimizer = AdamW(network.parameters(), recipe.optimizer.learning_rate, weight_decay=1e-4)
    average = AveragedModel(network, multi_avg_fn=moving_average(0.99), use_buffers=True)
    stream = BatchStream(len(data.training), recipe.data.batch_size, steps=10**9, seed=0)
    began, dynamic, steps = time.process_time(), network.dynamic_channels, 0
    for steps in count():
        done = (time.process_time() - began) / seconds
        if done >= 1:
            break
        warm = min(1.0, (steps + 1) / 50)
        optimizer.param_groups[0]["lr"] = (
            recipe.optimizer.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        )
        batch = torch.stack([data.training[place] for place in stream.batch(steps)])
        with torch.autocast("cpu", torch.bfloat16):
            made = network.unroll(batch, 1)
        loss = loss_of(made[:, :, :dynamic], batch[:, -made.shape[1] :, :dynamic], batch[:, 0, dynamic:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(network)
    return {
        "network": name,
        "weights": sum(weight.numel() for weight in network.parameters()),
        "static": list(data.static),
        "seconds": seconds,
        "steps": steps,
        **_scores(average.module, data, dynamic),
    }


def _scores(network: Any, data: ForecastDataModule, dynamic: int) -> dict[str, float]:
    assert data.validation is not None
    assert data.scaling is not None
    scores = ValidationScores(data.channels, data.recipe.data.frames - 1, data.scaling.select(data.channels))
    limits = torch.tensor([data.scaling.low, data.scaling.high])
    began = time.process_time()
    for number in range(len(data.validation)):
        clip = data.validation[0, number][None]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            made = network.forecast(clip[:, :1], clip.shape[1] - 1, limits)[:, :, :dynamic]
        scores.accumulate(made.float(), clip[:, 1:, :dynamic], clip[:, 0, :dynamic], 0.0)
    found = scores.compute()
    return {
        "validation_clouds": len(data.validation),
        "midplane_ratio": found["midplane_ratio"],
        "affected_iou": found["affected_iou"],
        "forecast_seconds": (time.process_time() - began) / len(data.validation),
    }


if __name__ == "__main__":
    main()
