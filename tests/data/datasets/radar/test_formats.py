"""Every public format, written by the tests: values, what was not measured, times, and broken files."""

import datetime
import importlib.util
import pickle
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from mim3d.data.datasets import radar
from mim3d.data.datasets.radar.formats import open_source
from mim3d.data.datasets.radar.meteonet import read_dates
from mim3d.errors import UserError

TIME = np.datetime64("2010-08-26T00:05:00")
RAW = np.array([[0, 1, 64], [104, 164, 255]])
DBZ = np.array([[-32, -31.5, 0], [20, 50, np.nan]], np.float32)


def read_one(path):
    """Open a file of one frame and read it."""
    (frames,) = open_source(path)
    assert frames.grid == RAW.shape
    values = frames.read([0])
    assert values.dtype == np.float32
    assert values.shape == (1, *RAW.shape)
    return frames, values[0]


def test_knmi_rain(tmp_path, write):
    raw = np.array([[0, 1, 100], [250, 12345, 65535]])
    frames, values = read_one(write.knmi(tmp_path / "rain.h5", TIME, raw))
    assert (frames.quantity, frames.times.tolist()) == ("rain_rate", [TIME.item()])
    # 0.01 mm in 5 minutes is 0.12 mm/h.
    np.testing.assert_allclose(values, [[0, 0.12, 12], [30, 1481.4, np.nan]], rtol=1e-6)


def test_knmi_reflectivity(tmp_path, write):
    frames, values = read_one(write.knmi(tmp_path / "echo.h5", TIME, RAW, reflectivity=True))
    assert frames.quantity == "reflectivity"
    np.testing.assert_array_equal(values, DBZ)


def test_odim_reflectivity_rate_and_accumulation(tmp_path, write):
    frames, values = read_one(write.odim(tmp_path / "dbz.h5", TIME, RAW))
    assert (frames.quantity, frames.times.tolist()) == ("reflectivity", [TIME.item()])
    np.testing.assert_array_equal(values, np.where(RAW == 0, -np.inf, DBZ))
    _, rate = read_one(write.odim(tmp_path / "rate.hdf", TIME, RAW, "RATE"))
    np.testing.assert_array_equal(rate, [[0, 0.5, 32], [52, 82, np.nan]])
    frames, accumulated = read_one(write.odim(tmp_path / "acrr.hdf5", TIME, RAW, "ACRR"))
    assert frames.quantity == "rain_rate"
    # In 15 minutes.
    np.testing.assert_array_equal(accumulated, 4 * rate)


@pytest.mark.parametrize("name", ["a.pgm", "a.pgm.gz"])
def test_pgm_of_fmi(tmp_path, name, write):
    frames, values = read_one(write.pgm(tmp_path / name, TIME, RAW))
    assert (frames.quantity, frames.times.tolist()) == ("reflectivity", [TIME.item()])
    np.testing.assert_array_equal(values, DBZ)


def test_pgm_with_two_bytes_a_pixel(tmp_path, write):
    raw = np.where(RAW == 255, 65535, RAW + 256)
    _, values = read_one(write.pgm(tmp_path / "a.pgm", TIME, raw, highest=65535))
    np.testing.assert_array_equal(values, DBZ + 128)


def test_sevir(tmp_path, write):
    vil = np.random.default_rng(0).integers(0, 255, (2, 3, 4, 5))
    vil[1, 0, 0, 2] = 255
    starts = [TIME, TIME + np.timedelta64(30, "D")]
    path = write.sevir(tmp_path, starts, vil)
    assert radar.kind(path) == "SEVIR HDF5"
    # The catalogue is a file of the folder, but none of radar images.
    first, second = open_source(tmp_path)
    assert (first.quantity, first.place, second.place) == ("vil", "S700000", "S700001")
    np.testing.assert_array_equal(first.times, write.times_of(5, start=TIME))
    np.testing.assert_array_equal(second.times, write.times_of(5, start=starts[1]))
    np.testing.assert_array_equal(first.read([3, 1]), np.moveaxis(vil[0], -1, 0)[[3, 1]])
    assert np.isnan(second.read([2])).sum() == 1
    assert np.isnan(second.read([2])[0, 0, 0])


def test_mrms_rain_and_reflectivity(tmp_path, write):
    pytest.importorskip("eccodes")
    values = np.array([[-3, 0, 0.1], [-1, 20.5, 148.8]])
    frames, rate = read_one(write.mrms(tmp_path / "rate.grib2", TIME + np.timedelta64(40, "s"), values))
    assert (frames.quantity, str(frames.times[0])) == ("rain_rate", "2010-08-26T00:05:40")
    expected = np.array([[np.nan, 0, 0.1], [np.nan, 20.5, 148.8]])
    np.testing.assert_allclose(rate, expected, atol=1e-4)
    for name, northward in (("rate.grib2.gz", False), ("other.grb2", True)):
        _, again = read_one(write.mrms(tmp_path / name, TIME, values, northward=northward))
        np.testing.assert_allclose(again, expected, atol=1e-4)
    dbz = np.array([[-999, -99, -5], [0, 35.5, 70]])
    frames, values = read_one(write.mrms(tmp_path / "echo.grib2", TIME, dbz, (10, 0)))
    assert frames.quantity == "reflectivity"
    np.testing.assert_allclose(values, [[np.nan, -np.inf, -5], [0, 35.5, 70]], atol=1e-4)


@pytest.mark.parametrize("compressed", [True, False])
def test_meteonet(tmp_path, compressed, write):
    data = np.array([[[0, 8, 16], [18, 70, 255]]] * 3)
    times = write.times_of(3)
    path = write.meteonet(tmp_path / "reflectivity_old_NW_2016_08.3.npz", times, data, compressed)
    (frames,) = open_source(path)
    assert frames.quantity == "reflectivity"
    np.testing.assert_array_equal(frames.times, times)
    values = frames.read([2, 0])
    np.testing.assert_array_equal(values, np.where(data == 255, np.nan, data)[:2])
    rain = write.meteonet(tmp_path / "rainfall_SE_2016_08.3.npz", times, data - 1, compressed)
    (frames,) = open_source(rain)
    np.testing.assert_allclose(frames.read([0])[0], [[np.nan, 0.84, 1.8], [2.04, 8.28, 30.48]], rtol=1e-6)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_dates_are_read_without_unpickling(tmp_path, protocol, monkeypatch):
    dates = [datetime.datetime(2016, 8, 21, 0, 25), datetime.datetime(1999, 12, 31, 23, 59, 58)]
    write_dates(tmp_path / "a.npz", pickle.dumps(np.array(dates, dtype=object), protocol), 2)
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(pickle, "loads", None)
    assert read_dates(tmp_path / "a.npz", "dates").astype(object).tolist() == dates


def write_dates(path, instructions, count):
    """Write an npz whose dates are any pickle."""
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': ({count},), }}".ljust(117) + "\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "dates.npy",
            b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + instructions,
        )


class Harmful:
    """An object whose unpickling does something."""

    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


def test_a_harmful_pickle_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dates(tmp_path / "a.npz", pickle.dumps(np.array([Harmful()], dtype=object)), 1)
    with pytest.raises(UserError, match=r"not a list of pickled dates|0 of them plain dates"):
        read_dates(tmp_path / "a.npz", "dates")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        (b"", "not a list of pickled dates"),
        (b"\x80\x03garbage", "not a list of pickled dates"),
        (
            pickle.dumps(np.array([datetime.datetime(2016, 1, 1)], dtype=object))[:-20],
            "pickled dates|0 of them",
        ),
        (pickle.dumps([b"\x07\xe0\x0d\x15\x00\x19\x00\x00\x00\x00"], 3), "month must be in 1..12"),
    ],
)
def test_broken_dates(tmp_path, instructions, message):
    write_dates(tmp_path / "a.npz", instructions, 1)
    with pytest.raises(UserError, match=message):
        read_dates(tmp_path / "a.npz", "dates")


def test_npz_of_ones_own(tmp_path, write):
    times = write.times_of(2)
    values = np.array([DBZ, DBZ])
    (frames,) = open_source(write.npz(tmp_path / "a.npz", times, reflectivity=values))
    np.testing.assert_array_equal(frames.times, times)
    np.testing.assert_array_equal(frames.read([1, 0]), values)
    raw = np.array([[[0, 15, -30]]] * 2, np.int16)
    path = write.npz(tmp_path / "b.npz", times.astype(str), rain_rate=raw, gain=0.1, missing=-30)
    (frames,) = open_source(path)
    np.testing.assert_array_equal(frames.times, times)
    np.testing.assert_allclose(frames.read([0]), [[[0, 1.5, np.nan]]])
    assert frames.quantity == "rain_rate"


def cut(path):
    """Leave the first two thirds of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: 2 * len(data) // 3])


def test_files_that_are_cut_short_say_so(tmp_path, write):
    big = np.random.default_rng(0).integers(1, 200, (40, 50))
    paths = [
        write.knmi(tmp_path / "a.h5", TIME, big),
        write.odim(tmp_path / "b.hdf", TIME, big),
        write.pgm(tmp_path / "c.pgm", TIME, big),
        write.pgm(tmp_path / "d.pgm.gz", TIME, big),
        write.meteonet(tmp_path / "reflectivity.npz", write.times_of(1), big[None]),
        write.npz(tmp_path / "e.npz", write.times_of(1), reflectivity=big[None]),
    ]
    if importlib.util.find_spec("eccodes"):
        paths.append(write.mrms(tmp_path / "f.grib2", TIME, big / 10))
        paths.append(write.mrms(tmp_path / "g.grib2.gz", TIME, big / 10))
    for path in paths:
        cut(path)
        with pytest.raises(UserError, match=r"cut short|bytes of pixels") as error:
            open_source(path)[0].read([0])
        assert path.name in str(error.value)
        assert "\n" not in str(error.value)


def change(path, name, value, group):
    """Set or delete an attribute."""
    with h5py.File(path, "a") as file:
        if value is None:
            del file[group].attrs[name]
        else:
            file[group].attrs[name] = value


@pytest.mark.parametrize(
    ("group", "name", "value", "message"),
    [
        ("image1", "image_geo_parameter", np.bytes_(b"ECHO_TOP_[KM]"), "holds 'ECHO_TOP_"),
        ("image1", "image_geo_parameter", None, "has no attribute 'image_geo_parameter'"),
        ("image1/calibration", "calibration_formulas", np.bytes_(b"GEO=PV^2"), "calibration_formulas is"),
        ("image1/calibration", "calibration_missing_data", np.array([1, 2]), "must be one value"),
        ("image1/calibration", "calibration_missing_data", np.bytes_(b"x"), "not a number"),
        ("overview", "product_datetime_end", np.bytes_(b"26-AGO-2010;00:05:00.000"), "not like 26-AUG"),
        ("overview", "product_datetime_start", np.bytes_(b"26-AUG-2010;00:05:00.000"), "no time at all"),
    ],
)
def test_broken_files_of_knmi(tmp_path, group, name, value, message, write):
    path = write.knmi(tmp_path / "a.h5", TIME, RAW)
    change(path, name, value, group)
    with pytest.raises(UserError, match=message):
        open_source(path)[0].read([0])


@pytest.mark.parametrize(
    ("group", "name", "value", "message"),
    [
        ("what", "object", np.bytes_(b"PVOL"), "in the radar's own coordinates"),
        ("what", "date", np.bytes_(b"tomorrow"), "not YYYYMMDD and HHMMSS"),
        ("what", "time", None, "has no attribute 'time'"),
        ("dataset2/what", "quantity", np.bytes_(b"VRAD"), "holds QIND, VRAD; read are DBZH"),
        ("dataset2/what", "nodata", None, "dataset2/data1/what gives no number 'nodata'"),
    ],
)
def test_broken_files_of_odim(tmp_path, group, name, value, message, write):
    path = write.odim(tmp_path / "a.h5", TIME, RAW)
    change(path, name, value, group)
    with pytest.raises(UserError, match=message):
        open_source(path)


def test_wrong_shapes(tmp_path, write):
    path = write.knmi(tmp_path / "a.h5", TIME, RAW[None])
    with pytest.raises(UserError, match=r"image_data must be numbers along 2 axes, found uint16 \(1, 2, 3\)"):
        open_source(path)
    own = write.npz(tmp_path / "a.npz", write.times_of(1), reflectivity=DBZ)
    with pytest.raises(UserError, match=r"must be numbers \(T, height, width\), found float32 \(2, 3\)"):
        open_source(own)
    write.npz(own, write.times_of(3), reflectivity=DBZ[None])
    with pytest.raises(UserError, match=r"holds 1 frames, times has the shape \(3,\)"):
        open_source(own)
    meteonet = write.meteonet(tmp_path / "rainfall.npz", write.times_of(3), RAW[None])
    with pytest.raises(UserError, match="holds 1 frames and 3 dates"):
        open_source(meteonet)
    folder = tmp_path / "mixed"
    folder.mkdir()
    write.pgm(folder / "a.pgm", TIME, RAW)
    write.pgm(folder / "b.pgm", TIME, RAW.T)
    with pytest.raises(UserError, match=r"b.pgm is on \(3, 2\) pixels, .*a.pgm on \(2, 3\)"):
        open_source(folder)


def test_broken_images(tmp_path, write):
    path = tmp_path / "a.pgm"
    for old, new, message in (
        (b"P5", b"P2", "no binary PGM"),
        (b"# obstime 201008260005\n", b"", "must say 'param' and 'obstime'"),
        (b"201008260005", b"2010-8-26", "not YYYYMMDDHHMM"),
        (b"CorrectedReflectivity", b"EchoTop", "holds 'EchoTop'"),
        (b"\n255\n", b"\n0\n", "up to 0"),
        (b"3 2\n", b"3 3\n", "6 bytes of pixels, 3 x 3 of them need 9"),
    ):
        data = write.pgm(path, TIME, RAW).read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new))
        with pytest.raises(UserError, match=message):
            open_source(path)[0].read([0])


def test_broken_npz_of_ones_own(tmp_path, write):
    path = tmp_path / "a.npz"
    np.savez(path, times=np.arange(1), reflectivity=DBZ[None])
    with pytest.raises(UserError, match="times must be datetime64 or texts"):
        open_source(path)
    write.npz(path, np.array(["soon"]), reflectivity=DBZ[None])
    with pytest.raises(UserError, match="times must be such as"):
        open_source(path)
    write.npz(path, write.times_of(1), reflectivity=DBZ[None], gain=np.ones(2))
    with pytest.raises(UserError, match="gain must be a number"):
        open_source(path)
    write.npz(path, write.times_of(1), reflectivity=DBZ[None], rain_rate=DBZ[None])
    with pytest.raises(UserError, match="must hold one of the arrays"):
        open_source(path)
    write.npz(path, write.times_of(1), rain_rate=DBZ[None])
    with pytest.raises(UserError, match=r"must be >= 0.*found -32"):
        open_source(path)[0].read([0])


def test_broken_sevir(tmp_path, write):
    vil = np.zeros((2, 3, 4, 5))
    with pytest.raises(UserError, match=r"put SEVIR's CATALOG\.csv into its folder"):
        open_source(write.sevir(tmp_path / "none", [], vil, catalog=False))
    with pytest.raises(UserError, match=r"gives event 1 \(S700001\) 0 times, it has 5 frames"):
        open_source(write.sevir(tmp_path / "short", [TIME], vil))
    path = write.sevir(tmp_path / "damaged", [TIME, TIME], vil)
    (tmp_path / "damaged" / "CATALOG.csv").write_text("id,img_type\nS1,vil\n")
    with pytest.raises(UserError, match="is not SEVIR's catalogue"):
        open_source(path)
    with h5py.File(path, "a") as file:
        del file["id"]
    with pytest.raises(UserError, match="vil must be uint8"):
        open_source(path)


def test_broken_mrms(tmp_path, monkeypatch, write):
    pytest.importorskip("eccodes")
    path = write.mrms(tmp_path / "a.grib2", TIME, RAW / 10)
    path.write_bytes(2 * path.read_bytes())
    with pytest.raises(UserError, match="more than one GRIB message"):
        open_source(path)
    path.write_bytes(b"x" * 300)
    with pytest.raises(UserError, match="is not GRIB2"):
        open_source(path)
    with pytest.raises(UserError, match="holds parameter 209-3-0"):
        open_source(write.mrms(path, TIME, RAW / 10, (3, 0)))


def test_mrms_without_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "eccodes", None)
    (tmp_path / "a.grib2").write_bytes(b"GRIB")
    with pytest.raises(UserError, match=r"needs ecCodes: pip install 'mim3d\[radar\]'"):
        open_source(tmp_path / "a.grib2")


def test_what_is_no_radar_file(tmp_path, write):
    with pytest.raises(UserError, match="no file or folder"):
        open_source(tmp_path / "none")
    with pytest.raises(UserError, match="holds no radar files"):
        open_source(tmp_path)
    np.savez(tmp_path / "a.npz", clips=np.zeros(1))
    with pytest.raises(UserError, match="of no known format; read are KNMI HDF5, ODIM HDF5"):
        open_source(tmp_path)
    (tmp_path / "a.h5").write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match="is not HDF5"):
        open_source(tmp_path / "a.h5")
    (tmp_path / "reading.npz").write_bytes(b"no zip")
    with pytest.raises(UserError, match="is not an npz file"):
        open_source(tmp_path / "reading.npz")
    own = tmp_path / "named"
    own.mkdir()
    with pytest.raises(UserError, match="must begin as MeteoNet's"):
        open_source(write.meteonet(own / "new_NW.npz", write.times_of(1), RAW[None]))
