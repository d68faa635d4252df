import shutil
import struct
from pathlib import Path

import pytest

from mim3d.compat.bundle import list_bundle, read_bundle
from mim3d.compat.crc32c import masked_crc32c

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def prefix(tmp_path):
    """A copy of a checkpoint that may be damaged."""
    for path in (GOLDEN / "checkpoint3d").glob("model.ckpt-7.*"):
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path / "model.ckpt-7"


def damage(path: Path, place: int, change: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= change
    path.write_bytes(data)


def test_all_variables_are_read(prefix):
    variables = read_bundle(prefix)
    assert len(variables) == 201
    assert {name: array.shape for name, array in variables.items()} == list_bundle(f"{prefix}.index")
    assert variables["predrnn/stlstm_1/input_to_state/kernel"].shape == (3, 3, 3, 1, 16)
    assert variables["Variable"].shape == ()
    assert (
        sum(array.nbytes for array in variables.values())
        == Path(f"{prefix}.data-00000-of-00001").stat().st_size
    )


def test_only_wanted_variables_are_read(prefix):
    assert list(read_bundle(prefix, lambda name: name == "Variable")) == ["Variable"]


def test_missing_files_are_named(prefix):
    with pytest.raises(
        ValueError, match=r"no TensorFlow checkpoint at .*other: there is no file .*other\.index"
    ):
        read_bundle(prefix.with_name("other"))
    data = Path(f"{prefix}.data-00000-of-00001")
    data.unlink()
    with pytest.raises(ValueError, match=r"the checkpoint's file .*data-00000-of-00001 is missing"):
        read_bundle(prefix)


def test_damaged_values_are_found(prefix):
    damage(Path(f"{prefix}.data-00000-of-00001"), 1000)
    with pytest.raises(
        ValueError, match=r"data-00000-of-00001 is damaged: the checksum of variable '.*' is wrong"
    ):
        read_bundle(prefix)


def test_truncated_values_are_found(prefix):
    data = Path(f"{prefix}.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(
        ValueError, match=r"data-00000-of-00001 is truncated: variable '.*' needs \d+ bytes, found"
    ):
        read_bundle(prefix)


def test_damaged_index_is_found(prefix):
    damage(Path(f"{prefix}.index"), 500)
    with pytest.raises(ValueError, match=r"index is damaged: the checksum of the block at byte 0 is wrong"):
        read_bundle(prefix)


@pytest.mark.parametrize("size", [0, 10, 1000])
def test_truncated_index_is_found(prefix, size):
    index = Path(f"{prefix}.index")
    index.write_bytes(index.read_bytes()[:size])
    with pytest.raises(ValueError, match="is not the index of a TensorFlow checkpoint, or is truncated"):
        read_bundle(prefix)


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4, 5])
def test_nonsense_in_the_footer_is_no_crash(prefix, place):
    index = Path(f"{prefix}.index")
    damage(index, index.stat().st_size - 48 + place, 0xFF)
    with pytest.raises(ValueError, match=r"is (damaged|truncated)"):
        read_bundle(prefix)


def table(entries: dict[bytes, bytes], kind: int = 0) -> bytes:
    """Write a LevelDB table of one block, without shared prefixes."""

    def block(pairs: dict[bytes, bytes]) -> bytes:
        rows = b"".join(bytes([0, len(key), len(value)]) + key + value for key, value in pairs.items())
        return rows + struct.pack("<II", 0, 1)

    def sealed(content: bytes) -> bytes:
        return content + bytes([kind]) + struct.pack("<I", masked_crc32c(content + bytes([kind])))

    def handle(offset: int, size: int) -> bytes:
        return b"".join(bytes([value & 0x7F | 0x80, value >> 7]) for value in (offset, size))

    data = block(entries)
    start = sealed(data)
    index = block({b"~": handle(0, len(data))})
    footer = handle(0, 0) + handle(len(start), len(index))
    return start + sealed(index) + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def test_compressed_index_is_named(tmp_path):
    (tmp_path / "model.index").write_bytes(table({b"": b"\x08\x01"}, kind=1))
    with pytest.raises(ValueError, match=r"is compressed .* cannot be read"):
        read_bundle(tmp_path / "model")


def test_big_endian_is_named(tmp_path):
    (tmp_path / "model.index").write_bytes(table({b"": b"\x08\x01\x10\x01"}))
    with pytest.raises(ValueError, match="written on a big-endian machine"):
        read_bundle(tmp_path / "model")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (b"\x08\x07", "variable 'v' has TensorFlow type 7, which cannot be read"),
        (b"\x08\x01\x3a\x00", "variable 'v' is stored in slices, which cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, entry, message):
    (tmp_path / "model.index").write_bytes(table({b"": b"\x08\x01", b"v": entry}))
    with pytest.raises(ValueError, match=message):
        read_bundle(tmp_path / "model")


def test_values_of_several_types_and_files_are_read(tmp_path):
    """One variable in the second file: `BundleEntryProto` with shape (2,), shard 1, offset 4, size 8."""
    values = struct.pack("<ii", 7, -7)
    entry = b"\x08\x03\x12\x04\x12\x02\x08\x02\x18\x01\x20\x04\x28\x08\x35" + struct.pack(
        "<I", masked_crc32c(values)
    )
    (tmp_path / "model.index").write_bytes(table({b"": b"\x08\x02", b"v": entry}))
    (tmp_path / "model.data-00001-of-00002").write_bytes(b"____" + values)
    array = read_bundle(tmp_path / "model")["v"]
    assert array.tolist() == [7, -7]
    assert array.dtype == "int32"
