"""`keras-crossvit serve`."""

from __future__ import annotations

import argparse

HELP = "Serve an exported model over HTTP and gRPC."


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


def run(arguments: argparse.Namespace) -> None:
    """Serves the model until the command is interrupted."""
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
    )
