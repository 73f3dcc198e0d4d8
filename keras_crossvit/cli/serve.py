"""`keras-crossvit serve`."""

from __future__ import annotations

import argparse
import signal

HELP = "Serve an exported model over HTTP and gRPC."
EXAMPLES = ("pets.tflite", "runs/pets --name pets --port 9000 --metrics-port 9001")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "model", help=".tflite, .xml, .onnx or .keras file, or the folder of a SavedModel or training run"
    )
    parser.add_argument("--name", help="name of the model in URLs (default: name of the file or folder)")
    parser.add_argument("--host", default="127.0.0.1", help="host name or IPv4 address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="HTTP port (default: %(default)s)")
    parser.add_argument("--grpc-port", type=int, default=8081, help="gRPC port (default: %(default)s)")
    parser.add_argument("--metrics-port", type=int, help="port of Prometheus metrics (default: no metrics)")
    parser.add_argument("--threads", type=int, help="threads of the runtime (default: number of processors)")
    parser.add_argument(
        "--max-batch-size", type=int, default=16, help="maximum number of requests per batch (default: %(default)s)"
    )
    parser.add_argument(
        "--max-batch-time",
        type=float,
        default=0.005,
        help="maximum seconds a request waits for its batch to fill (default: %(default)s)",
    )
    parser.add_argument(
        "--max-request-bytes",
        type=int,
        default=32 * 2**20,
        help="maximum size of a request, also after decompression (default: %(default)s)",
    )
    parser.add_argument(
        "--max-images", type=int, default=32, help="maximum number of images per request (default: %(default)s)"
    )
    parser.add_argument(
        "--max-pixels", type=int, default=25_000_000, help="maximum number of pixels per image (default: %(default)s)"
    )
    parser.add_argument(
        "--request-timeout",
        type=float,
        default=30.0,
        help="seconds in which a request must arrive (default: %(default)g)",
    )
    parser.add_argument(
        "--decoding-threads",
        type=int,
        default=2,
        help="maximum number of images that are decoded at once (default: %(default)s)",
    )
    parser.add_argument(
        "--drain-time",
        type=float,
        default=5.0,
        help="seconds after SIGTERM in which the server answers but is not ready (default: %(default)g)",
    )
    parser.add_argument(
        "--allow-any-operation",
        action="store_true",
        help="load a SavedModel with operations that this package does not export; only from those whom you trust",
    )


def run(arguments: argparse.Namespace) -> None:
    """Serves the model until a signal ends the command."""
    from keras_crossvit.serving import serve

    serve(
        arguments.model,
        name=arguments.name,
        host=arguments.host,
        port=arguments.port,
        grpc_port=arguments.grpc_port,
        metrics_port=arguments.metrics_port,
        threads=arguments.threads,
        max_batch_size=arguments.max_batch_size,
        max_batch_time=arguments.max_batch_time,
        max_request_bytes=arguments.max_request_bytes,
        max_images=arguments.max_images,
        max_pixels=arguments.max_pixels,
        request_timeout=arguments.request_timeout,
        decoding_threads=arguments.decoding_threads,
        drain_time=arguments.drain_time,
        allow_any_operation=arguments.allow_any_operation,
    )
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # while Python ends, another one would change the exit code
