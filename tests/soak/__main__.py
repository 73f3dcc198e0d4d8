"""Damages files and kills commands for as long as SOAK_SECONDS says, and writes soak/report.json and soak/report.md.

`make soak`, or `python -m tests.soak`; `--repeat soak/failures/NAME` gives a file that failed to its reader again.
"""

import argparse
import collections
import json
import os
import sys
import time
from pathlib import Path

from tests.soak import fuzzing, kills, readers

SECONDS = 1500
OUTPUT = Path("soak").absolute()
FUZZING_SHARE = 0.75  # of the time; the rest is for kills
WORKERS = 2


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the damage and of the moments (default: %(default)s)")
    parser.add_argument("--kinds", nargs="*", choices=readers.KINDS, help="damage only these files, and kill nothing")
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

    def log(text):
        print(f"{time.monotonic() - start:6.0f} s  {text}", flush=True)

    given = {"seed": arguments.seed, "failures": failures, "workers": WORKERS, "log": log}
    try:
        fuzzing.fuzz(parts["damaged files"], seconds * FUZZING_SHARE, **given)
        if "kill -9" in parts:
            kills.kill_commands(parts["kill -9"], seconds * (1 - FUZZING_SHARE), **given)
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
    columns = {
        "damaged files": ("cases", "read", "refused", "failed", "longest seconds"),
        "kill -9": ("killed", "ended first", "failed"),
    }
    for part, rows in parts.items():
        lines += ["", f"| {part} | {' | '.join(columns[part])} |", "|---" * (len(columns[part]) + 1) + "|"]
        total = collections.Counter()
        for row in rows.values():
            total.update({name: count for name, count in row.items() if "seconds" not in name})
            total["longest seconds"] = max(total["longest seconds"], row["longest seconds"])
        for name, row in {**rows, "all": total}.items():
            row = {**row, "cases": fuzzing.count_cases(row)}
            cells = (
                f"{row.get(column, 0):.1f}" if "seconds" in column else f"{row.get(column, 0):,}"
                for column in columns[part]
            )
            lines.append(f"| {name} | {' | '.join(cells)} |")
    (OUTPUT / "report.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
