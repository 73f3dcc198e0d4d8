"""Where and when a benchmark ran."""

from __future__ import annotations

import collections
import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

_LIBRARIES = (
    "keras_crossvit",
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "timm",
    "ai-edge-litert",
    "openvino",
    "onnxruntime",
    "numpy",
)


def describe_environment() -> dict[str, Any]:
    """Machine, versions, date and command, for the head of the tables."""
    versions = []
    for library in _LIBRARIES:
        try:
            versions.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    processors = f"{_processor()}, {os.cpu_count()} processors"
    return {
        "machine": ", ".join([processors, *_cards(), f"{platform.system()} {platform.machine()}"]),
        "instructions": _instructions(),
        "versions": ", ".join(versions),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["keras-crossvit", *sys.argv[1:]]),
    }


def _cpu_info(field: str) -> str | None:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), None)


def _processor() -> str:
    return _cpu_info("model name") or platform.processor() or "unknown processor"


def _cards() -> list[str]:
    """NVIDIA's cards, each kind with its number, as the driver's own tool lists them."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no driver, or none that has a card
        return []
    return [f"{number} {name}" for name, number in collections.Counter(done.stdout.splitlines()).items()]


def _instructions() -> str:
    """Those that decide how quickly a processor multiplies."""
    deciding = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8", "asimd")
    flags = (_cpu_info("flags") or _cpu_info("Features") or "").split()
    return ", ".join(flag for flag in deciding if flag in flags) or "unknown"
