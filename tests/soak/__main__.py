"""Damages files, kills commands and loads a server for as long as SOAK_SECONDS says; writes soak/report.md and .json.

`make soak`, or `python -m tests.soak`; `--repeat soak/failures/NAME` gives a file that failed to its reader again.
"""

import argparse
import collections
import json
import os
import sys
import time
from pathlib import Path

from tests.soak import fuzzing, kills, load, readers

SECONDS = 1620
OUTPUT = Path("soak").absolute()
SHARES = {"damaged files": 0.52, "kill -9": 0.36, "load": 0.12}  # of the time
COLUMNS = {
    "damaged files": ("cases", "read", "refused", "crashed", "failed", "longest seconds"),
    "kill -9": ("killed", "ended first", "failed"),
    "load": (
        *("requests", "right", "refused", "failed", "changes"),
        *("per second", "median ms", "99 % ms", "MB per 1000"),
    ),
}
WORKERS = 2


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the damage and of the moments (default: %(default)s)")
    parser.add_argument(
        "--kinds", nargs="*", choices=readers.KINDS, help="damage only these files, and do nothing else"
    )
    parser.add_argument("--repeat", type=Path, metavar="FOLDER", help="read the files of a failure again")
    arguments = parser.parse_args()
    if arguments.repeat:
        fuzzing.repeat(arguments.repeat)
        return
    seconds, start = float(os.environ.get("SOAK_SECONDS", SECONDS)), time.monotonic()
    failures = OUTPUT / "failures"
    failures.mkdir(parents=True, exist_ok=True)
    kinds = arguments.kinds or list(readers.KINDS)
    parts = {"damaged files": {name: collections.Counter() for name in kinds}}
    if not arguments.kinds:
        parts["kill -9"] = {name: collections.Counter() for name in kills.COMMANDS}
        parts["load"] = {name: collections.Counter() for name in load.ROWS}

    def log(text):
        print(f"{time.monotonic() - start:6.0f} s  {text}", flush=True)

    given = {"seed": arguments.seed, "log": log}
    workers = {**given, "failures": failures, "workers": WORKERS}
    times = {part: share * seconds for part, share in SHARES.items()}
    try:
        fuzzing.fuzz(parts["damaged files"], times["damaged files"], **workers)
        if not arguments.kinds:
            kills.kill_commands(parts["kill -9"], times["kill -9"], **workers)
            requests = round(load.REQUESTS * min(1, seconds / SECONDS))
            load.load_server(parts["load"], requests, times["load"], **given)
    except KeyboardInterrupt:
        log("interrupted; the report has what was done")
    finally:
        write_report(parts, time.monotonic() - start, arguments.seed)
        log(f"{OUTPUT / 'report.md'} is written")
    sys.exit(any(row["failed"] for rows in parts.values() for row in rows.values()))


def write_report(parts, seconds, seed):
    """Writes the counts of all parts as JSON and as Markdown tables."""
    (OUTPUT / "report.json").write_text(json.dumps({"seconds": round(seconds), "seed": seed, **parts}, indent=2) + "\n")
    lines = [f"{seconds / 60:.0f} minutes, seed {seed}"]
    for part, rows in parts.items():
        lines += ["", f"| {part} | {' | '.join(COLUMNS[part])} |", "|---" * (len(COLUMNS[part]) + 1) + "|"]
        total = sum(rows.values(), collections.Counter())
        total["longest seconds"] = max(row["longest seconds"] for row in rows.values())
        for name, row in {**rows, **({"all": total} if len(rows) > 1 and part != "load" else {})}.items():
            cells = {**row, "cases": fuzzing.count_cases(row)}
            lines.append(f"| {name} | {' | '.join(_shown(cells.get(column, 0)) for column in COLUMNS[part])} |")
    (OUTPUT / "report.md").write_text("\n".join(lines) + "\n")


def _shown(number):
    return f"{number:,.1f}" if isinstance(number, float) else f"{number:,}"


if __name__ == "__main__":
    main()
