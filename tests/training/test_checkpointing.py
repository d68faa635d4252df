from pathlib import Path

import pytest
import torch

from mim3d.errors import UserError
from mim3d.training.checkpointing import AtomicCheckpointIO, load_state


def test_a_write_that_fails_leaves_the_old_state(tmp_path: Path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"global_step": 1}, path)

    def cut_short(state: object, target: Path) -> None:
        target.write_bytes(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", cut_short)
    with pytest.raises(OSError, match="no space"):
        AtomicCheckpointIO().save_checkpoint({"global_step": 2}, path)
    assert load_state(path) == {"global_step": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["last.ckpt"]


class Unknown:
    """Something that only a pickle could hold."""


def test_objects_are_never_unpickled(tmp_path: Path):
    path = tmp_path / "last.ckpt"
    torch.save({"object": Unknown()}, path)
    with pytest.raises(UserError, match="cannot be read"):
        load_state(path)
