import pytest
import torch

from mim3d.errors import UserError
from mim3d.machine import (
    choose_device,
    computes_bfloat16,
    describe_machine,
    forecast_channels_last,
    forecast_precision,
)

CPU = torch.device("cpu")


def test_devices():
    assert choose_device("cpu") == CPU
    assert choose_device().type in ("cpu", "cuda")
    with pytest.raises(UserError, match="no device 'abacus'"):
        choose_device("abacus")


def test_a_cpu_forecasts_in_full_precision_unless_told_otherwise():
    assert forecast_precision("auto", CPU) is torch.float32
    assert forecast_precision("float32", CPU) is torch.float32
    assert forecast_precision("bfloat16", CPU) is torch.bfloat16
    with pytest.raises(UserError, match="auto, float32, bfloat16; found 'double'"):
        forecast_precision("double", CPU)


def test_channels_lie_side_by_side_in_half_precision_on_a_cpu_unless_told_otherwise():
    full, half = torch.float32, torch.bfloat16
    assert forecast_channels_last("auto", CPU, half)
    assert not forecast_channels_last("auto", CPU, full)
    assert not forecast_channels_last("auto", torch.device("cuda"), half)
    assert not forecast_channels_last("contiguous", CPU, half)
    assert forecast_channels_last("channels-last", CPU, full)
    with pytest.raises(UserError, match="auto, contiguous, channels-last; found 'blocked'"):
        forecast_channels_last("blocked", CPU, full)


@pytest.mark.parametrize(
    ("has", "expected"), [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False)]
)
def test_bfloat16_counts_where_the_cpu_multiplies_it(monkeypatch, has, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert computes_bfloat16(CPU) is expected


def test_a_torch_that_cannot_be_asked_has_none(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not computes_bfloat16(CPU)


def test_description(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert describe_machine(CPU, torch.float32) == "cpu (1 thread, float32)"
        torch.set_num_threads(2)
        assert describe_machine(CPU, "bf16-mixed") == "cpu (2 threads, bf16-mixed)"
        half = describe_machine(CPU, torch.bfloat16, channels_last=True)
        assert half == "cpu (2 threads, bfloat16, channels last)"
    finally:
        torch.set_num_threads(threads)


def test_bfloat16_that_the_cpu_cannot_multiply_is_said_to_be_slow(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    for precision in ("bf16-mixed", torch.bfloat16):
        assert "without hardware for it: float32 is many times faster" in describe_machine(CPU, precision)
    assert "hardware" not in describe_machine(CPU, "32-true")
