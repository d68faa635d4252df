"""Writers of small radar files of every public format, laid out as their makers lay them out."""

import csv
import datetime
import gzip
from pathlib import Path

import h5py
import numpy as np

START = np.datetime64("2019-06-10T23:50:00")


def times_of(count: int, minutes: int = 5, start: np.datetime64 = START) -> np.ndarray:
    """Moments that follow each other over the end of a day."""
    return start + np.arange(count) * np.timedelta64(minutes, "m")


def moving_echo(count: int, grid: tuple[int, int] = (12, 16)) -> np.ndarray:
    """An echo [dBZ, in steps of 2] that moves a pixel a frame; the left column was not measured."""
    rows, columns = np.mgrid[: grid[0], : grid[1]]
    frames = [60 - 2.0 * (abs(rows - 5) + abs(columns - 4 - number)) for number in range(count)]
    values = np.maximum(np.stack(frames), 10).astype(np.float32)
    values[:, :, 0] = np.nan
    return values


def write_knmi(path: Path, time: np.datetime64, raw: np.ndarray, reflectivity: bool = False) -> Path:
    """Write numbers that stand for 0.01 mm of 5 minutes, or for 0.5 dBZ above -32 dBZ."""
    moments = [str((time - np.timedelta64(m, "m")).astype(datetime.datetime)) for m in (5, 0)]
    months = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
    with h5py.File(path, "w") as file:
        image = file.create_group("image1")
        image["image_data"] = raw.astype(np.uint8 if reflectivity else np.uint16)
        quantity = b"REFLECTIVITY_[DBZ]" if reflectivity else b"ACCUMULATED_PRECIPITATION_[MM]"
        image.attrs["image_geo_parameter"] = np.bytes_(quantity)
        calibration = image.create_group("calibration")
        formula = b"GEO=0.500000*PV+-32.000000" if reflectivity else b"GEO=0.01*PV+0.0"
        calibration.attrs["calibration_formulas"] = np.bytes_(formula)
        for name in ("calibration_missing_data", "calibration_out_of_image"):
            calibration.attrs[name] = np.array([255 if reflectivity else 65535], np.int32)
        overview = file.create_group("overview")
        for name, text in zip(("start", "end"), moments, strict=True):
            stamp = f"{text[8:10]}-{months[int(text[5:7]) - 1]}-{text[:4]};{text[11:19]}.000"
            overview.attrs[f"product_datetime_{name}"] = np.array([stamp.encode()])
    return path


def write_odim(
    path: Path, time: np.datetime64, raw: np.ndarray, quantity: str = "DBZH", **changes: object
) -> Path:
    """Write numbers that stand for 0.5 dBZ (or mm/h, mm) above -32, 255 no data, 0 no echo."""
    stamps = [
        str(moment).replace("-", "").replace(":", "").split("T")
        for moment in (time - np.timedelta64(15, "m"), time)
    ]
    what: dict[str, object] = {
        "quantity": np.bytes_(quantity),
        "gain": 0.5,
        "offset": -32.0 if quantity == "DBZH" else 0.0,
        "nodata": 255.0,
        "undetect": 0.0,
        "startdate": np.bytes_(stamps[0][0]),
        "starttime": np.bytes_(stamps[0][1]),
        "enddate": np.bytes_(stamps[1][0]),
        "endtime": np.bytes_(stamps[1][1]),
    }
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = np.bytes_(b"ODIM_H5/V2_2")
        root = file.create_group("what")
        root.attrs["object"] = np.bytes_(changes.pop("object", "COMP"))
        root.attrs["date"], root.attrs["time"] = (np.bytes_(stamp) for stamp in stamps[1])
        # Quality stands first, and the quantity both in the data set's and in the data's own group.
        for number, (name, values) in enumerate((("QIND", raw), (quantity, raw)), 1):
            group = file.create_group(f"dataset{number}")
            group["data1/data"] = values.astype(np.uint8)
            own = group.create_group("what")
            for key, value in {**what, "quantity": np.bytes_(name), "gain": 7.0}.items():
                own.attrs[key] = value
            inner = group["data1"].create_group("what")
            inner.attrs["gain"] = what["gain"]
            for key, value in changes.items():
                inner.attrs[key] = value
    return path


def write_pgm(path: Path, time: np.datetime64, raw: np.ndarray, highest: int = 255) -> Path:
    """Write an image of FMI; a path that ends in .gz is compressed."""
    stamp = str(time).replace("-", "").replace(":", "").replace("T", "")[:12]
    header = (
        f"P5\n# composite_area FIN\n# obstime {stamp}\n# productname LOWEST\n# param CorrectedReflectivity\n"
        f"# projection radar {{\n# type stereographic\n# }}\n{raw.shape[1]} {raw.shape[0]}\n{highest}\n"
    )
    data = header.encode() + raw.astype(np.uint8 if highest < 256 else ">u2").tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_sevir(folder: Path, starts: list[np.datetime64], vil: np.ndarray, catalog: bool = True) -> Path:
    """Write events `(N, height, width, T)` as SEVIR does: the catalogue three folders above the file."""
    path = folder / "data" / "vil" / "2019" / "SEVIR_VIL_STORMEVENTS_2019_0101_0630.h5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["vil"] = vil.astype(np.uint8)
        file["id"] = np.array([f"S{700000 + row}".encode() for row in range(len(vil))])
    if catalog:
        frames = vil.shape[3]
        offsets = ":".join(str(5 * (row - frames // 2)) for row in range(frames))
        with (folder / "CATALOG.csv").open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["id", "file_name", "file_index", "img_type", "time_utc", "minute_offsets"])
            for row, start in enumerate(starts):
                middle = str(start + np.timedelta64(5 * (frames // 2), "m")).replace("T", " ")
                name = f"vil/2019/{path.name}"
                lines.writerow([f"S{700000 + row}", "ir069/2019/other.h5", row, "ir069", middle, "-5:0:5"])
                lines.writerow([f"S{700000 + row}", name, row, "vil", middle, offsets])
    return path


def write_meteonet(path: Path, times: np.ndarray, data: np.ndarray, compressed: bool = True) -> Path:
    """Write an npz with dates as pickled objects."""
    dates = np.array(list(times.astype("M8[us]").astype(object)), dtype=object)
    save = np.savez_compressed if compressed else np.savez
    save(path, data=data.astype(np.int16), dates=dates, miss_dates=dates[:0])
    return path


def write_mrms(
    path: Path,
    time: np.datetime64,
    values: np.ndarray,
    parameter: tuple[int, int] = (6, 1),
    northward: bool = False,
) -> Path:
    """Write a message as MRMS does, from north to south, or the other way round."""
    import eccodes

    message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    stamp = str(time)
    keys = {
        "discipline": 209,
        "centre": 161,
        "parameterCategory": parameter[0],
        "parameterNumber": parameter[1],
        "dataDate": int(stamp[:10].replace("-", "")),
        "hour": int(stamp[11:13]),
        "minute": int(stamp[14:16]),
        "second": int(stamp[17:19]),
        "Ni": values.shape[1],
        "Nj": values.shape[0],
        "jScansPositively": int(northward),
        "iDirectionIncrementInDegrees": 0.01,
        "jDirectionIncrementInDegrees": 0.01,
        "bitsPerValue": 16,
        "decimalScaleFactor": 1,
    }
    for key, value in keys.items():
        eccodes.codes_set(message, key, value)
    eccodes.codes_set_values(message, (values[::-1] if northward else values).ravel())
    data = eccodes.codes_get_message(message)
    eccodes.codes_release(message)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_npz(path: Path, times: np.ndarray, **arrays: np.ndarray | float) -> Path:
    """Write frames of one's own."""
    np.savez(path, times=times, **arrays)
    return path


def name_of(time: np.datetime64, suffix: str) -> str:
    """Return a file name that sorts in order of time."""
    return f"{str(time).replace('-', '').replace(':', '')}{suffix}"


def write_archive(kind: str, folder: Path, times: np.ndarray, values: np.ndarray) -> Path:
    """Write frames [dBZ, in steps of 0.5; NaN not measured] in a format that holds reflectivity."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = np.isnan(values)
    raw = np.where(missing, 255, 2 * np.nan_to_num(values) + 64)
    for time, frame, lost, dbz in zip(times, raw, missing, values, strict=True):
        if kind == "knmi":
            write_knmi(folder / name_of(time, ".h5"), time, frame, reflectivity=True)
        elif kind == "odim":
            write_odim(folder / name_of(time, ".hdf"), time, frame)
        elif kind == "pgm":
            write_pgm(folder / name_of(time, ".pgm.gz"), time, frame)
        elif kind == "mrms":
            write_mrms(folder / name_of(time, ".grib2"), time, np.where(lost, -999, dbz), (10, 0))
    if kind == "meteonet":
        write_meteonet(folder / "reflectivity_NW.npz", times, np.where(missing, 255, np.nan_to_num(values)))
    elif kind == "npz":
        write_npz(folder / "own.npz", times, reflectivity=values)
    return folder
