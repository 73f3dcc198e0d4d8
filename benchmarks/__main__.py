"""`keras-crossvit benchmark`."""

from __future__ import annotations

import argparse

from keras_crossvit._internal.checks import resolve_threads

HELP = "Measure the same work on this package's backends and runtimes and on its peers, in one run."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    from benchmarks.runners import RUNNERS
    from benchmarks.workload import MODES, PRECISIONS

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "contenders:\n  " + "\n  ".join(
        f"{each.name}: {', '.join(each.modes)}; {', '.join(each.precisions)}" for each in RUNNERS.values()
    )
    parser.add_argument("--mode", choices=MODES, default="inference", help="what is measured (default: inference)")
    parser.add_argument(
        "--input-pipeline", dest="mode", action="store_const", const="pipeline", help="the same as --mode pipeline"
    )
    parser.add_argument("--model", nargs="+", default=["crossvit_9_dagger"], help="published models")
    parser.add_argument("--batch-size", nargs="+", type=int, default=[1, 16], help="default: 1 16")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["float32"], help="default: float32")
    parser.add_argument("--image-size", nargs="+", type=int, help="sides of the small-patch image, multiples of 120")
    parser.add_argument("--threads", nargs="+", type=int, default=[resolve_threads(None)], help="default: all")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help="default: all that are installed")
    parser.add_argument("--peer", default="timm-eager", help="contender that ratios are to (default: timm-eager)")
    parser.add_argument("--repetitions", type=int, default=15, help="turns of each contender (default: 15)")
    parser.add_argument("--output", default="benchmark", help="folder of the results (default: benchmark)")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command; the same command goes on where an interrupted one stopped."""
    from benchmarks.benchmark import run_benchmark
    from benchmarks.workload import plan

    has_batches = arguments.mode in ("inference", "training", "pipeline")
    work = plan(
        mode=arguments.mode,
        models=arguments.model,
        batch_sizes=arguments.batch_size if has_batches else [1],
        precisions=arguments.precision,
        threads=arguments.threads,
        image_sizes=arguments.image_size or [None],
    )
    run_benchmark(
        work,
        arguments.output,
        runners=arguments.runners,
        peer=arguments.peer,
        repetitions=arguments.repetitions,
    )
