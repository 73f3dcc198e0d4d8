"""Describes the machine, the versions and the command of a benchmark."""

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

_LIBRARIES = [
    *("keras_crossvit", "keras", "tensorflow", "jax", "torch", "timm"),
    *("ai-edge-litert", "openvino", "onnxruntime", "numpy"),
]
# The instruction sets that decide how fast a processor multiplies.
_INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8", "asimd")


def describe_environment() -> dict[str, str]:
    """Returns the machine, its instruction sets, the libraries' versions, the date and the command."""
    installed = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    processor = _cpu_info("model name") or platform.processor() or "unknown processor"
    machine = [f"{processor}, {os.cpu_count()} processors", *_gpus(), f"{platform.system()} {platform.machine()}"]
    flags = (_cpu_info("flags") or _cpu_info("Features") or "").split()
    return {
        "machine": ", ".join(machine),
        "instructions": ", ".join(each for each in _INSTRUCTIONS if each in flags) or "unknown",
        "versions": ", ".join(f"{name} {installed[name]}" for name in _LIBRARIES if name in installed),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": f"python -m benchmarks {shlex.join(sys.argv[1:])}",
    }


def _cpu_info(field: str) -> str | None:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), None)


def _gpus() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no driver, or no GPU
        return []
    return [f"{number} {name}" for name, number in collections.Counter(done.stdout.splitlines()).items()]
