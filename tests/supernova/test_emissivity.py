import numpy as np
import pytest

from mim3d.errors import UserError
from mim3d.supernova.emissivity import CoolingTable, emissivity


def test_published_values_of_schure() -> None:
    """Koyama & Inutsuka at 1000 K; Schure et al. at 1e6 K; bremsstrahlung as T^0.5 far above 10^8.16 K."""
    koyama = 2e-26 * (1e7 * np.exp(-59.2) + 1.4e-2 * np.sqrt(1000.0) * np.exp(-0.092))
    assert emissivity(np.array(1000.0), "schure2009") == pytest.approx(koyama, rel=1e-6)
    assert np.log10(emissivity(np.array(1e6), "schure2009")) == pytest.approx(-21.7073, abs=1e-6)
    hot = emissivity(np.array([2e8, 8e8]), "schure2009")
    assert hot[1] / hot[0] == pytest.approx(2.0, rel=1e-6)


def test_published_values_of_gnat() -> None:
    """Lambda per n_e n_H at 1e6 and 1e7 K times 1.205 and 1.209 electrons for each hydrogen nucleus."""
    assert emissivity(np.array(1e6), "gnat2007") == pytest.approx(10**-21.8508 * 1.205, rel=2e-3)
    assert emissivity(np.array(1e7), "gnat2007") == pytest.approx(10**-22.5346 * 1.209, rel=2e-3)
    assert emissivity(np.array(1000.0), "gnat2007") == emissivity(np.array(1000.0), "schure2009")


def test_the_two_differ_where_metals_radiate() -> None:
    temperature = np.array([1e5, 1e6, 1e8])
    ratio = emissivity(temperature, "schure2009") / emissivity(temperature, "gnat2007")
    np.testing.assert_allclose(ratio, [4.07, 1.15, 1.11], rtol=0.02)


@pytest.mark.parametrize("table", ["schure2009", "gnat2007"])
def test_continuous_and_positive(table: CoolingTable) -> None:
    values = emissivity(np.geomspace(10, 1e9, 20_001), table)
    assert np.all(values > 0)
    assert np.abs(np.diff(np.log(values))).max() < 0.06


def test_unknown_table() -> None:
    with pytest.raises(UserError, match="gnat2007, schure2009"):
        emissivity(np.array(1e4), "cloudy")  # type: ignore[arg-type]
