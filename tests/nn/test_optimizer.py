from pathlib import Path

import numpy as np
import pytest
import torch

from mim3d.nn import OriginalAdam

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("momentum", [0.95, 0.0])
def test_steps_are_the_originals(momentum):
    with np.load(GOLDEN / "adam_unit.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    count = sum(name.startswith("p0/") for name in arrays)
    parameters = [torch.nn.Parameter(torch.from_numpy(arrays[f"p0/{i}"])) for i in range(count)]
    optimizer = OriginalAdam(parameters, betas=(momentum, 0.9995))
    for k, rate in enumerate(arrays["lr"], start=1):
        optimizer.param_groups[0]["lr"] = float(rate)
        for i, parameter in enumerate(parameters):
            parameter.grad = torch.from_numpy(arrays[f"g{k}/{i}"])
        optimizer.step()
        for i, parameter in enumerate(parameters):
            expected = arrays[f"mom1_{momentum}/read_first/p{k}/{i}"]
            np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-6, atol=1e-6)


def test_epsilon_stands_inside_the_root():
    """A first gradient of 1e-6 moves by lr 1e-6 / sqrt(1e-12 + 1e-8), a hundredth of Adam's step."""
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    parameter.grad = torch.full((1,), 1e-6, dtype=torch.float64)
    OriginalAdam([parameter], lr=1.0).step()
    assert -parameter.item() == pytest.approx(1e-6 / (1e-12 + 1e-8) ** 0.5)


def test_large_gradients_step_like_adam():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(20, dtype=torch.float64)) for _ in range(2))
    optimizers = [
        OriginalAdam([ours], 1e-3, (0.9, 0.999)),
        torch.optim.Adam([theirs], 1e-3, (0.9, 0.999), eps=0),
    ]
    for _ in range(5):
        ours.grad = torch.randn(20, dtype=torch.float64)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


def test_state_resumes_exactly():
    def run(steps, restart):
        torch.manual_seed(1)
        parameter = torch.nn.Parameter(torch.ones(5))
        optimizer = OriginalAdam([parameter], 0.1)
        for k in range(steps):
            if k == restart:
                saved = optimizer.state_dict()
                optimizer = OriginalAdam([parameter], 0.7)
                optimizer.load_state_dict(saved)
            optimizer.zero_grad()
            loss = optimizer.step(lambda: (parameter * torch.randn(5)).sum().backward())
            assert loss is None
        return parameter.detach()

    assert torch.equal(run(6, restart=3), run(6, restart=-1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "lr must be at least 0, found -1.0"),
        ({"betas": (1.0, 0.9)}, r"betas must be at least 0 and less than 1, found \(1.0, 0.9\)"),
        ({"eps": -1e-8}, "eps must be at least 0, found -1e-08"),
    ],
)
def test_rates_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        OriginalAdam([torch.nn.Parameter(torch.zeros(1))], **arguments)


def test_a_complex_weight_steps_like_its_real_and_imaginary_part():
    torch.manual_seed(0)
    parts = torch.nn.Parameter(torch.randn(4, 2))
    whole = torch.nn.Parameter(torch.view_as_complex(parts.detach().clone()))
    optimizers = [OriginalAdam([parts], 0.1), OriginalAdam([whole], 0.1)]
    for _ in range(3):
        parts.grad = torch.randn(4, 2)
        whole.grad = torch.view_as_complex(parts.grad.clone())
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(torch.view_as_real(whole.detach()), parts.detach())
