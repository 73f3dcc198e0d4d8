"""`keras-crossvit serve`."""

from __future__ import annotations

import argparse

HELP = "Serve an exported model over HTTP and gRPC by MLServer, with requests that come together classified together."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", help=".tflite, .xml, .onnx or .keras file, or folder of a SavedModel or of a run")
    parser.add_argument("--name", help="name of the model in URLs (default: the file's or folder's)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="port of HTTP (default: 8080)")
    parser.add_argument("--grpc-port", type=int, default=8081, help="port of gRPC (default: 8081)")
    parser.add_argument("--metrics-port", type=int, help="port of Prometheus' metrics (default: none)")
    parser.add_argument("--threads", type=int, help="threads to compute with (default: one for each processor)")
    parser.add_argument(
        "--max-batch-size", type=int, default=16, help="most requests to classify together (default: 16)"
    )
    parser.add_argument(
        "--max-batch-time", type=float, default=0.005, help="seconds that a request waits for others (default: 0.005)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Runs the command until it is interrupted."""
    from keras_crossvit.serving.server import serve

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
