"""Work in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
# XLA_FLAGS for JAX, where compiling is what takes the time, and results do not depend on how hard the compiler tries.
QUICK_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"
)


def compiled_once(folder):
    """Environment in which JAX compiles quickly, and leaves what it has compiled in a folder for others to take."""
    return {
        "XLA_FLAGS": QUICK_COMPILATION,
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def run_python(*arguments, cwd=None, check=True, **environment):
    """Runs Python with the project on its path; fails with what the process printed."""
    command, environment = [sys.executable, *map(str, arguments)], {**os.environ, **environment}
    done = subprocess.run(command, cwd=cwd or PROJECT, env=environment, capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done
