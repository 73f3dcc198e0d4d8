"""The command `python -m benchmarks`, run in a checkout."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from benchmarks.process import ENVIRONMENT
from benchmarks.runners import RUNNERS
from benchmarks.workload import MODES, PRECISIONS, plan
from keras_crossvit._internal.checks import resolve_threads
from keras_crossvit._internal.log import log_to_stdout
from keras_crossvit._internal.user_text import one_line
from keras_crossvit.cli.main import EXIT_INTERRUPTED, EXIT_MISTAKE, USER_ERRORS


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, 2 for a user's mistake, or 130 for an interrupt."""
    parsed = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the runners' processes on this signal too
    try:
        _run(parsed)
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command to resume.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except USER_ERRORS as error:
        if parsed.traceback:
            raise
        print(f"python -m benchmarks: {one_line(error)}", file=sys.stderr)
        return EXIT_MISTAKE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare the speed of backends, runtimes and timm.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="runners:\n"
        + "\n".join(
            f"  {each.name}: {', '.join(each.classes)}; {', '.join(each.precisions)}" for each in RUNNERS.values()
        ),
    )
    parser.add_argument("--mode", choices=MODES, default="inference", help="what to measure (default: inference)")
    parser.add_argument(
        "--model", nargs="+", metavar="NAME", default=["crossvit_9_dagger"], help="models (default: crossvit_9_dagger)"
    )
    parser.add_argument("--batch-size", nargs="+", type=int, metavar="N", default=[1, 16], help="default: 1 16")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["float32"], help="default: float32")
    parser.add_argument(
        "--image-size",
        nargs="+",
        type=int,
        metavar="PIXELS",
        default=[None],
        help="sizes of the small-patch image, multiples of 120 (default: the model's own)",
    )
    parser.add_argument(
        "--threads", nargs="+", type=int, metavar="N", default=[resolve_threads(None)], help="default: all processors"
    )
    parser.add_argument(
        "--runners", nargs="+", choices=RUNNERS, metavar="NAME", help="runners, listed below (default: all installed)"
    )
    parser.add_argument(
        "--baseline",
        choices=RUNNERS,
        metavar="NAME",
        default="timm-eager",
        help="runner that the others' times are divided by (default: timm-eager)",
    )
    parser.add_argument("--repetitions", type=int, metavar="N", default=15, help="turns of each runner (default: 15)")
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        default="benchmark_results",
        help="folder of the results, from which the same command resumes (default: benchmark_results)",
    )
    parser.add_argument("--traceback", action="store_true", help="show the traceback of every error")
    return parser


def _run(parsed: argparse.Namespace) -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from benchmarks.benchmark import run_benchmark
    from benchmarks.results import to_markdown

    workloads = plan(
        mode=parsed.mode,
        models=parsed.model,
        batch_sizes=parsed.batch_size,
        precisions=parsed.precision,
        threads=parsed.threads,
        image_sizes=parsed.image_size,
    )
    with log_to_stdout():
        rows = run_benchmark(
            workloads,
            parsed.output,
            runners=parsed.runners,
            baseline=parsed.baseline,
            repetitions=parsed.repetitions,
        )
    print(to_markdown(rows, parsed.baseline))


if __name__ == "__main__":
    sys.exit(main())
