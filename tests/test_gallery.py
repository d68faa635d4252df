"""The script that draws the gallery, with models that were trained for two steps."""

import numpy as np
import pytest
from PIL import Image

from mim3d.cli import main
from mim3d.data.datasets import idx

TINY = [
    "--network.settings.hidden_channels=[3, 3]",
    "--network.settings.kernel_size=3",
    "--data.batch_size=2",
    "--data.validation_clips=2",
    "--training.steps=2",
    "--training.validate_every=2",
    "--training.save_every=2",
    "--machine.accelerator=cpu",
    "--data.options.num_frames=4",
    "--data.options.input_length=2",
]


@pytest.fixture(scope="module")
def gallery(script):
    return script("make_gallery")


def write_digits(folder):
    random = np.random.default_rng(0)
    for name, count in (("train", 30), ("t10k", 7)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 6:22, 8:20] = random.integers(1, 256, (count, 16, 12))
        idx.write(folder / f"{name}-images-idx3-ubyte.gz", images)


def write_storm(path):
    """Write a storm that begins late: what moves is in the last windows."""
    y, x = np.mgrid[:16, :16]
    echoes = np.stack([55 * np.exp(-((x - 3 - 0.3 * k) ** 2 + (y - 8) ** 2) / 20) for k in range(40)])
    echoes[:37] = echoes[0]
    times = np.datetime64("2019-06-10T00:00") + np.arange(40) * np.timedelta64(5, "m")
    np.savez(path, reflectivity=echoes, times=times)


def test_it_draws_what_has_a_model_and_names_what_has_none(gallery, tmp_path, capsys):
    models, docs = tmp_path / "runs", tmp_path / "docs"
    write_digits(tmp_path / "digits")
    write_storm(tmp_path / "storm.npz")
    digits = [f"--data={tmp_path / 'digits'}", "--data.options.size=32", "--data.options.count=3"]
    storm = [
        f"--data={tmp_path / 'storm.npz'}",
        "--data.options.shares=[0.6, 0.1, 0.3]",
        "--data.options.tile=16",
    ]
    assert main(["train", "moving-mnist-small", f"--output={models / 'moving-mnist'}", *TINY, *digits]) == 0
    assert main(["train", "radar-small", f"--output={models / 'radar'}", *TINY, *storm]) == 0
    capsys.readouterr()
    names = ("moving-mnist", "taxibj", "radar")
    where = [f"--models={models}", f"--docs={docs}", *(f"--only={name}" for name in names)]
    data = [f"--data=moving-mnist={tmp_path / 'digits'}", f"--data=radar={tmp_path / 'storm.npz'}"]
    data += ["--credit=radar=made up", "--option=radar.stride=2"]
    assert gallery.main([*where, *data]) == 0
    out = capsys.readouterr().out.splitlines()
    assert (out[0], out[2]) == ("moving-mnist: drawn", "radar: drawn")
    assert out[1].startswith("taxibj: left out: no bundled model was trained on taxibj")
    for name in ("moving-mnist", "radar"):
        gif, png = (docs / "images" / "gallery" / f"{name}.{kind}" for kind in ("gif", "png"))
        assert gif.stat().st_size <= gallery.MOST_BYTES
        with Image.open(gif) as film, Image.open(png) as strip:
            assert film.n_frames == 4
            assert strip.width > 300
    page = (docs / "gallery.md").read_text()
    assert page.count("\n## ") == 2
    assert "Forecast by a model, trained with a recipe of its own, network `bundled-mim`, 2 steps." in page
    # The model's own options need not be given.
    model = "--model runs/moving-mnist/model.safetensors"
    assert f"mim3d forecast --dataset moving-mnist --data digits {model}\n" in page
    assert str(tmp_path) not in page
    # Of the storm's windows the last: nothing moves in the others.
    assert "--run 3 --options stride=2\n" in page
    assert "Data: made up." in page

    # A set that can no longer be drawn keeps its section.
    (models / "radar" / "model.safetensors").unlink()
    assert gallery.main([*where[:2], "--only=radar"]) == 0
    assert "radar: left out" in capsys.readouterr().out
    assert (docs / "gallery.md").read_text() == page


def test_large_animations_are_made_smaller(gallery, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    frames = [Image.fromarray(random.integers(0, 256, (80, 120, 3), dtype=np.uint8)) for _ in range(5)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=[200] * 4 + [900])
    size = (tmp_path / "a.gif").stat().st_size
    monkeypatch.setattr(gallery, "MOST_BYTES", size // 3)
    gallery._place_gif(tmp_path / "a.gif", tmp_path / "b.gif")
    assert (tmp_path / "b.gif").stat().st_size <= size // 3
    with Image.open(tmp_path / "b.gif") as film:
        assert film.n_frames == 5
        film.seek(4)
        assert film.info["duration"] == 900
    monkeypatch.setattr(gallery, "MOST_BYTES", 10)
    with pytest.raises(gallery.UserError, match="does not get below"):
        gallery._place_gif(tmp_path / "a.gif", tmp_path / "c.gif")


def test_a_data_set_that_is_not_there_is_refused(gallery, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        gallery.main(["--data", "kth=here", f"--docs={tmp_path}"])
    assert "no data set 'kth'" in capsys.readouterr().err
