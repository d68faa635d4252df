import numpy as np
import pytest

from mim3d.compat.crc32c import crc32c


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
        (b"a", 0xC1D04330),
    ],
)
def test_published_examples(data, checksum):
    """RFC 3720, appendix B.4, and the usual check value."""
    assert crc32c(data) == checksum


@pytest.mark.parametrize("size", [1, 3, 4, 5, 2047, 2048, 2049, 8191, 8193, 50_000])
def test_lanes_give_what_one_register_gives(size):
    data = np.random.default_rng(size).bytes(size)
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    assert crc32c(data) == register ^ 0xFFFFFFFF
