"""Sends good and bad requests to a server from many clients at once: every answer is that of the same request alone."""

import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tests.helpers.processes import PROJECT

REQUESTS, CLIENTS, BAD = 10_000, 32, 0.05
TOLERANCE = 1e-4  # of probabilities, which depend on the other images of a batch in the last digits


def load_server(row, requests, seconds, seed, log):
    """Sends requests until there were so many or the time is over, and counts in `row` what was answered."""
    from tests.serving.kserve_requests import bytes_tensor, post, tensors
    from tests.serving.server_process import serving

    numbers = np.random.default_rng(seed)
    photos = [_photo(numbers) for _ in range(10)]
    sides = ((48, 48, 3), (32, 32, 3))
    good = [{"inputs": tensors([numbers.normal(size=(n, *side)) for side in sides])} for n in (1, 2, 3)]
    good = [json.dumps(each).encode() for each in (*good, *({"inputs": [bytes_tensor([photo])]} for photo in photos))]
    bad = [b"", b"{", b"[]", b'{"inputs": 5}', good[0][:100], json.dumps({"inputs": []}).encode(), b"\xff" * 1000]
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        log("load: exports a model and starts a server")
        command = "import sys; from tests.soak import load; load.write_model(sys.argv[1])"
        subprocess.run([sys.executable, "-c", command, folder], check=True, cwd=PROJECT, stderr=subprocess.DEVNULL)
        with serving(Path(folder, "letters")) as server:
            url = f"{server.rest}/infer"
            alone = {body: post(url, body) for body in (*good, *bad)}
            choose, end, times, memory = random.Random(seed), time.monotonic() + seconds, [], []
            bodies = (choose.choice(bad if choose.random() < BAD else good) for _ in range(requests))

            def send(body):
                start = time.monotonic()
                try:
                    problem = _difference(post(url, body), alone[body])
                except Exception as error:
                    problem = f"{type(error).__name__}: {error}"
                return body in bad, time.monotonic() - start, problem

            with ThreadPoolExecutor(CLIENTS) as pool:
                while time.monotonic() < end and (some := list(itertools.islice(bodies, 500))):
                    for is_bad, duration, problem in pool.map(send, some):
                        row["requests"] += 1
                        row["failed" if problem else "refused" if is_bad else "right"] += 1
                        times.append(duration)
                        if problem:
                            log(f"load: {problem[:300]}")
                    memory.append(_resident_megabytes(server.pid))
    row["median ms"], row["99 % ms"] = (1000 * float(np.percentile(times, each)) for each in (50, 99))
    if len(memory) > 3:  # of the second half, when caches are full
        half = memory[len(memory) // 2 :]
        row["MB per 1000"] = float(np.polyfit(range(len(half)), half, 1)[0]) * 2
    log(f"load: {row['requests']:,} requests, {row['failed']} failed")


def write_model(folder):
    """Exports a model of letters."""
    import keras_crossvit as kc
    from tests.helpers.exports import confident_model
    from tests.helpers.models import DEEPER

    kc.export(confident_model(**DEEPER), Path(folder, "letters"), format="saved_model")


def _photo(numbers):
    from keras_crossvit.exporting.serving_requests import encoded

    return encoded(numbers.integers(0, 256, (60, 50, 3), dtype="uint8"), "PNG")


def _difference(answer, alone):
    """Returns in what an answer differs from that of the same request alone, or ""."""
    (code, found), (expected_code, expected) = answer, alone
    if code != expected_code:
        return f"status {code}, not {expected_code}: {str(found)[:200]}"
    if code != 200:
        return ""
    outputs, wanted = ({each["name"]: each["data"] for each in one["outputs"]} for one in (found, expected))
    if outputs.keys() != wanted.keys() or not np.allclose(
        outputs["probabilities"], wanted["probabilities"], rtol=0, atol=TOLERANCE
    ):
        return f"other outputs than alone: {str(outputs)[:200]}"
    return ""


def _resident_megabytes(pid):
    """Resident memory of a process."""
    (line,) = (each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
