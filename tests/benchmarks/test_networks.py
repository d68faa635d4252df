"""Networks are compared after equal computing time."""

import json

import numpy as np
from astropy import units as u

from benchmarks import networks
from mim3d import Trajectory
from mim3d.data import well


def test_all_networks_get_the_same_time(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for number in range(12):
        density = np.exp(random.normal(size=(20, 8, 8, 8))).astype(np.float32)
        common = {
            "units": {"density": u.Msun / u.pc**3, "temperature": u.K, "velocity": u.km / u.s},
            "times": np.arange(20) / 150,
            "box_size": (60.0,) * 3,
        }
        rest = {
            "temperature": np.full_like(density, 100),
            "velocity": random.normal(size=(*density.shape, 3)).astype(np.float32),
        }
        twin = Trajectory(fields={"density": density[::-1].copy(), **rest}, **common)
        run = Trajectory(fields={"density": density, **rest}, twin=twin, **common)
        well.write(tmp_path / f"runs/run_{number}.h5", run)
    small = {"hidden_channels": [4, 4], "kernel_size": 3}
    monkeypatch.setattr(networks, "NETWORKS", {"unet": small, "convlstm": {**small, "patch_size": 2}})
    path = tmp_path / "networks.json"
    networks.main(["--data", str(tmp_path / "runs"), "--minutes=0.02", "--window=8", f"--json={path}"])
    results = json.loads(path.read_text())
    assert [result["network"] for result in results] == ["unet", "convlstm"]
    for result in results:
        assert result["seconds"] == 1.2
        assert result["steps"] > 1
        assert 0 < result["midplane_ratio"] < 20
        assert 0 <= result["affected_iou"] <= 1
        assert result["forecast_seconds"] > 0
