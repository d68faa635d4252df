"""Units and constants of the gas: everything inside `mim3d.supernova` is in pc, Msun, Myr, km/s and K.

Speeds are km/s, so the natural time of the equations is pc/(km/s), a little less than one Myr: names that end
in `_myr` are in Myr and must be divided by `MYR_PER_CODE_TIME` before they meet a speed. Energies are in
Msun (km/s)^2, pressures in Msun/pc^3 (km/s)^2.

The values are CODATA 2018 and the IAU 2015 nominal ones, as in `astropy.constants`; they are written out here
so that importing the solver does not import astropy.
"""

CM_PER_PC = 3.0856775814913673e18
CM_PER_KM = 1.0e5
GRAM_PER_MSUN = 1.988409870698051e33
SECONDS_PER_MYR = 3.15576e13
PROTON_MASS_GRAM = 1.67262192369e-24
BOLTZMANN_ERG_PER_K = 1.380649e-16

MYR_PER_CODE_TIME = CM_PER_PC / CM_PER_KM / SECONDS_PER_MYR
"""One pc/(km/s) [Myr], 0.97779."""

MSUN_KMS2_PER_ERG = 1.0 / (GRAM_PER_MSUN * CM_PER_KM**2)
"""One erg [Msun (km/s)^2]; 1e51 erg are 5.0291e7."""

SUPERNOVA_ENERGY = 1.0e51 * MSUN_KMS2_PER_ERG
"""Energy of one supernova, 1e51 erg [Msun (km/s)^2]."""

HYDROGEN_MASS_FRACTION = 1.0 / 1.4
"""Mass in hydrogen over mass of all gas: one helium atom for ten of hydrogen."""

MASS_DENSITY_PER_PROTON_NUMBER_DENSITY = PROTON_MASS_GRAM * CM_PER_PC**3 / GRAM_PER_MSUN
"""Mass density of one proton mass per cm^3 [Msun/pc^3], 0.024714."""

MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY = MASS_DENSITY_PER_PROTON_NUMBER_DENSITY / HYDROGEN_MASS_FRACTION
"""Mass density of gas with one hydrogen nucleus per cm^3, helium included [Msun/pc^3], 0.034600."""

MEAN_MOLECULAR_WEIGHT_NEUTRAL = 1.4 / 1.1
"""Mass per particle of neutral atomic gas [proton masses], 1.27."""

MEAN_MOLECULAR_WEIGHT_IONISED = 1.4 / 2.3
"""Mass per particle of fully ionised gas [proton masses], 0.61."""

THETA_PER_KELVIN = BOLTZMANN_ERG_PER_K / PROTON_MASS_GRAM / CM_PER_KM**2
"""k_B / m_p [(km/s)^2/K]: P / rho = THETA_PER_KELVIN * T / mu."""

ADIABATIC_INDEX = 5.0 / 3.0
"""Ratio of specific heats of a monatomic gas."""
