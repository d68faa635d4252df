"""The command: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measure import Options
from benchmarks.rows import Row, all_rows
from benchmarks.table import exponent_lines, exponents, make_table

ROOT = Path(__file__).parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Measure the rows that were asked for, each in a process of its own; print the table and write JSON."""
    options = _parser().parse_args(arguments)
    devices = [options.device] if options.device else ["cpu", *(["cuda"] if _has_gpu() else [])]
    rows = [row for device in devices for row in all_rows(device, options.quick)]
    names = [_label(row) for row in rows]
    chosen = [
        row
        for row, name in zip(rows, names, strict=True)
        if not options.rows or any(fnmatch.fnmatch(name, pattern) for pattern in options.rows)
    ]
    emulated = [] if options.quick or options.list else [row for row in chosen if _is_emulated(row)]
    chosen = [row for row in chosen if row not in emulated]
    if options.list or not (chosen or emulated):
        print("\n".join(names))
        return 0 if options.list else 2
    how = Options(options.repeats, options.part, options.baseline, not options.no_limits)
    # A file or a pipe has no width of its own.
    console = Console(width=None if sys.stdout.isatty() else 180)
    progress = Console(stderr=True)
    if emulated:
        left_out = ", ".join(map(_label, emulated))
        progress.print(
            f"left out, for want of hardware that multiplies bfloat16: {left_out}", highlight=False
        )
    results, failed = [], []
    for number, row in enumerate(chosen, start=1):
        progress.print(f"{number} of {len(chosen)}: {_label(row)}", highlight=False)
        result = _in_own_process(row, how, options.threads)
        if result is None:
            failed.append(_label(row))
            continue
        results.append({**result, "name": _label(row)})
        # A long campaign that is stopped keeps what it has.
        _write(options.json, results, how, failed)
    if results:
        about = results[0]["machine"]
        console.print(
            f"{about['processor']}, {about['threads']} threads, torch {about['torch']}"
            + (" (quick: tiny sizes, numbers mean nothing)" if options.quick else "")
        )
        console.print(make_table(results))
        for line in exponent_lines(results):
            console.print(line, highlight=False)
    for name in failed:
        console.print(f"failed: {name}", highlight=False)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", nargs="+", metavar="PATTERN", help="rows by name, such as 'sn32/*'")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: see that everything runs")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), metavar="FILE")
    parser.add_argument("--baseline", action="store_true", help="measure the plain loop beside")
    parser.add_argument(
        "--part", type=int, default=0, metavar="FRAMES", help="compute so many frames, scale up"
    )
    parser.add_argument("--repeats", type=int, default=3, help="calls whose median counts (3)")
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch; its own choice where not given")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="both, where there are both")
    parser.add_argument("--no-limits", action="store_true", help="leave the machine's limits unmeasured")
    return parser


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _is_emulated(row: Row) -> bool:
    """Tell whether a row is of a precision that its device does not have: it would take hours."""
    import torch

    from mim3d.machine import computes_bfloat16

    return row.precision == "bfloat16" and not computes_bfloat16(torch.device(row.device))


def _label(row: Row) -> str:
    return row.name if row.device == "cpu" else f"{row.device}/{row.name}"


def _in_own_process(row: Row, options: Options, threads: int) -> dict[str, Any] | None:
    request = json.dumps({"row": row.to_dict(), "options": asdict(options), "threads": threads})
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.measure", request],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def _write(path: Path, results: list[dict[str, Any]], options: Options, failed: list[str]) -> None:
    record = {"options": asdict(options), "rows": results, "exponents": exponents(results), "failed": failed}
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
