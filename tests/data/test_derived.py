"""Channels that follow from fields."""

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u

from mim3d.data import affected, channels, site_marker
from mim3d.data.derived import static_marker
from mim3d.errors import UserError


def test_gas_is_affected_where_it_differs_from_the_twin_by_more_than_a_tenth():
    density = np.array([0.5, 0.89, 0.91, 1.0, 1.09, 1.11, 20.0]) * 3
    found = affected(density, np.full(7, 3.0))
    np.testing.assert_array_equal(found, [1, 1, 0, 0, 0, 1, 1])
    assert found.dtype == np.float32


def test_the_marker_is_a_cone_around_the_site():
    marker = site_marker((32, 32, 32), (60, 60, 60), (0, 0, 0), (30, 30, 30))
    assert marker.shape == (32, 32, 32)
    assert marker.dtype == np.float32
    # Voxel (15, 15, 15) is centred 0.9375 pc from the site along every axis.
    assert marker[15, 15, 15] == pytest.approx(1 - np.sqrt(3) * 0.9375 / 30, rel=1e-6)
    np.testing.assert_allclose(marker, marker[::-1], rtol=1e-6)
    assert not marker[0, 0].any()
    # Its integral is that of the cone, pi R^3 / 3.
    assert marker.sum() * (60 / 32) ** 3 == pytest.approx(np.pi * 30**3 / 3, rel=1e-3)


def test_the_marker_follows_the_site_and_its_reach_stays_in_parsecs():
    corner = site_marker((64, 32), (60, 30), (-30, 0), (-30 + 15, 22.5))
    assert np.unravel_index(corner.argmax(), corner.shape) in {(15, 23), (16, 24), (15, 24), (16, 23)}
    assert corner[16 + 8, 23] == pytest.approx(1 - np.hypot(7.96875, 0.46875) / 30, rel=1e-4)


def test_channels_come_in_the_order_asked(run):
    found = channels(run, ("velocity", "density"), ("affected", "site"))
    assert found.shape == (5, 6, 8, 8, 8)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 2], run.fields["velocity"][..., 2])
    np.testing.assert_array_equal(found[:, 3], run.fields["density"])
    np.testing.assert_array_equal(found[:, 4], affected(run.fields["density"], run.twin.fields["density"]))
    assert not found[0, 4].any()
    np.testing.assert_array_equal(found[:, 5], np.broadcast_to(found[0, 5], (5, 8, 8, 8)))


@pytest.mark.parametrize(("energy", "factor"), [(0.5, 0.8495), (1.0, 1.0), (2.0, 1.1505), (10.0, 1.5)])
def test_the_marker_carries_the_energy(run, energy, factor):
    told = replace(run, parameters={"explosion_energy": energy * 1e51 * u.erg}, twin=None)
    found = channels(told, ("density",), ("site", "site_energy"))
    np.testing.assert_allclose(found[:, 2], factor * found[:, 1], rtol=1e-4)
    in_joule = replace(told, parameters={"explosion_energy": energy * 1e44 * u.J})
    np.testing.assert_allclose(static_marker(in_joule, "site_energy"), found[0, 2], rtol=1e-6)


def test_energies_that_a_marker_cannot_carry_are_named(run):
    weak = replace(run, parameters={"explosion_energy": 1e48 * u.erg}, twin=None)
    with pytest.raises(UserError, match="more than 1e49 erg here, found 1e\\+48"):
        channels(weak, ("density",), ("site_energy",))
    # A common supernova where nothing is said.
    silent = replace(run, parameters={}, twin=None)
    np.testing.assert_array_equal(static_marker(silent, "site_energy"), static_marker(silent, "site"))


def test_lengths_are_converted(run):
    kiloparsecs = replace(
        run,
        box_size=(0.06,) * 3,
        origin=(0.0,) * 3,
        site=(0.03,) * 3,
        length_unit=u.kpc,
        twin=None,
    )
    np.testing.assert_allclose(
        channels(kiloparsecs, ("density",), ("site",))[:, 1],
        channels(run, ("density",), ("site",))[:, 1],
        rtol=1e-5,
    )
    with pytest.raises(UserError, match="the box is measured in pix"):
        channels(replace(kiloparsecs, length_unit=u.pix), ("density",), ("site",))


def test_what_is_missing_is_named(run_like):
    with pytest.raises(UserError, match="twin without explosion"):
        channels(run_like(twin=False), ("density",), ("affected",))
    with pytest.raises(UserError, match="no derived channel 'shell'; there are: affected, site"):
        channels(run_like(), ("density",), ("shell",))
