"""Sends good and bad requests to servers from many clients at once: every answer is the model's own.

Also while the model is replaced again and again, and while servers take turns.
"""

import collections
import contextlib
import http.client
import io
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tests.helpers.processes import PROJECT

REQUESTS, CLIENTS, BAD = 10_000, 32, 0.05
TOLERANCE = 1e-4  # of probabilities and logits, which depend on the other images of a batch in the last digits
TIMEOUT = 60
PART = 500  # requests between two looks at the memory
REPLACED, TURNS = 10, 5
ONE, MANY, REPLACING, TAKING_TURNS = ROWS = ("1 client", f"{CLIENTS} clients", "model replaced", "servers in turns")


def load_server(rows, requests, seconds, seed, log):
    """Sends requests until there were so many or the time is over, and counts in `rows` what was answered."""
    from tests.serving.load_balancer import taking_turns
    from tests.serving.server_process import serving

    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        log("load: exports two versions of a model and starts a server")
        command = "import sys; from tests.soak import load; load.write_models(sys.argv[1])"
        subprocess.run([sys.executable, "-c", command, folder], check=True, cwd=PROJECT, stderr=subprocess.DEVNULL)
        models = [Path(folder, f"{name}.tflite") for name in ("first", "second")]
        clients = Clients(models, seed, log)
        served = Path(folder, "letters.tflite")
        install(models[0], served)
        with serving(served) as server:
            clients.send(lambda: server.rest, 100, seconds / 10, CLIENTS)  # warms up
            clients.send(lambda: server.rest, requests // 10, seconds / 10, 1, row=rows[ONE])
            memory = clients.send(lambda: server.rest, requests, seconds / 2, CLIENTS, row=rows[MANY], pid=server.pid)
            if len(memory) > 3:  # of the second half, when caches are full
                half = np.array(memory[len(memory) // 2 :])
                rows[MANY]["MB per 1000"] = float(np.polyfit(*half.T, 1)[0]) * 1000

            def replace():
                for model in itertools.islice(itertools.cycle(models[::-1]), REPLACED):
                    install(model, served)
                    os.kill(server.pid, signal.SIGHUP)
                    clients.wait_for(model, server.rest)
                    rows[REPLACING]["changes"] += 1
                    yield

            clients.send_during(replace(), lambda: server.rest, requests, seconds / 5, rows[REPLACING])
        with taking_turns(list(itertools.islice(itertools.cycle(models), TURNS)), drain_time=2) as (balancer, turns):
            next(turns)

            def take_turns():
                for _ in turns:
                    rows[TAKING_TURNS]["changes"] += 1
                    yield

            clients.send_during(take_turns(), balancer.url, requests, seconds / 5, rows[TAKING_TURNS])
    for name, row in rows.items():
        log(f"load: {name}: {row['requests']:,} requests, {row['failed']} failed")


def write_models(folder):
    """Exports two models that differ in their answers."""
    from tests.helpers.exports import confident_model, write_export
    from tests.helpers.models import DEEPER

    model = confident_model(**DEEPER)
    write_export(model, Path(folder, "first.tflite"))
    head = model.get_layer("large_patch_head").kernel
    head.assign(-head)
    write_export(model, Path(folder, "second.tflite"))


def install(model, path):
    """Puts a copy of a model at the path that is served, at once."""
    unfinished = shutil.copy(model, path.with_name("unfinished"))
    Path(unfinished).replace(path)


class Clients:
    """Clients that know what each model answers to good requests, and that bad ones are refused."""

    def __init__(self, models, seed, log):
        from keras_crossvit.preprocessing.images import read_image
        from keras_crossvit.preprocessing.transforms import preprocess
        from keras_crossvit.runtimes import load_runtime
        from tests.serving.kserve_requests import bytes_tensor, tensors

        numbers = np.random.default_rng(seed)
        runtimes = {each: load_runtime(each, threads=1, quiet=True) for each in models}
        sizes = runtimes[models[0]].config.image_sizes
        pairs = [[numbers.normal(size=(n, *size, 3)).astype("float32") for size in sizes] for n in (1, 2, 3)]
        photos = [_photo(numbers) for _ in range(10)]
        bodies = [tensors(each) for each in pairs] + [[bytes_tensor([photo])] for photo in photos]
        inputs = pairs + [preprocess(read_image(io.BytesIO(photo)), runtimes[models[0]]) for photo in photos]
        self._good = [json.dumps({"inputs": each}).encode() for each in bodies]
        self._bad = [b"", b"{", b"[]", b'{"inputs": 5}', self._good[0][:100], b'{"inputs": []}', b"\xff" * 1000]
        self._answers = {
            model: {body: runtime.probabilities(*each) for body, each in zip(self._good, inputs, strict=True)}
            for model, runtime in runtimes.items()
        }
        self._seed, self._log = seed, log

    def send(self, choose, requests, seconds, clients, *, row=None, pid=None, end=None):
        """Sends requests to the URLs that `choose` returns, from so many clients, and counts answers in `row`.

        Returns the numbers of requests after which the memory of the process was measured, each with the megabytes.
        """
        row = collections.Counter() if row is None else row
        end, start, lock = end or threading.Event(), time.monotonic(), threading.Lock()
        times, memory, numbers = [], [], itertools.count()

        def work(client):
            choices = random.Random(f"{self._seed} {client}")
            with contextlib.closing(Connection()) as connection:
                while next(numbers) < requests and time.monotonic() < start + seconds and not end.is_set():
                    body = choices.choice(self._bad if choices.random() < BAD else self._good)
                    sent = time.monotonic()
                    try:
                        problem = self._problem(body, *connection.post(choose(), body))
                    except Exception as error:
                        problem = f"{type(error).__name__}: {error}"
                    duration = time.monotonic() - sent
                    with lock:
                        times.append(duration)
                        row["requests"] += 1
                        row["failed" if problem else "refused" if body in self._bad else "right"] += 1
                        if pid and len(times) % PART == 0:
                            memory.append((len(times), _resident_megabytes(pid)))
                    if problem:
                        self._log(f"load: {problem[:300]}")

        with ThreadPoolExecutor(clients) as pool:
            for each in [pool.submit(work, client) for client in range(clients)]:
                each.result()
        row["per second"] = len(times) / (time.monotonic() - start)
        if times:
            row["median ms"], row["99 % ms"] = (1000 * float(np.percentile(times, each)) for each in (50, 99))
        return memory

    def send_during(self, changes, choose, requests, seconds, row):
        """Sends requests until the generator `changes` has made all its changes; at least one if the time is over."""
        end = threading.Event()

        def change():
            start = time.monotonic()
            try:
                for _ in changes:
                    if time.monotonic() > start + seconds:
                        break
            finally:
                end.set()

        with ThreadPoolExecutor(1) as thread:
            changed = thread.submit(change)
            self.send(choose, requests, float("inf"), CLIENTS, row=row, end=end)
            changed.result()

    def wait_for(self, model, url):
        """Waits until a server answers as this model does."""
        with contextlib.closing(Connection()) as connection:
            while not self._is_answer_of(model, self._good[0], connection.post(url, self._good[0])[1]):
                time.sleep(0.05)

    def _problem(self, body, status, answer):
        """Returns what is wrong with an answer, or ""."""
        if body in self._bad:
            return "" if 400 <= status < 500 else f"status {status} for {body[:50]}: {answer[:200]}"
        if status == 200 and any(self._is_answer_of(model, body, answer) for model in self._answers):
            return ""
        return f"status {status}, not the model's answer: {answer[:200]}"

    def _is_answer_of(self, model, body, answer):
        outputs = {each["name"]: np.reshape(each["data"], each["shape"]) for each in json.loads(answer)["outputs"]}
        expected, found = self._answers[model][body], outputs["probabilities"]
        if "class_ids" in outputs:  # the most probable classes first
            expected = np.take_along_axis(expected, outputs["class_ids"], axis=1)
            if not outputs["valid"].all() or (np.diff(found) > 0).any():
                return False
        return found.shape == expected.shape and np.allclose(found, expected, rtol=0, atol=TOLERANCE)


class Connection:
    """A connection that stays open, to one server at a time."""

    def __init__(self):
        self._connection = None

    def post(self, url, body):
        """Returns status and body of the answer to an inference request."""
        host, _, path = url.removeprefix("http://").partition("/")
        if self._connection is None or f"{self._connection.host}:{self._connection.port}" != host:
            self.close()
            self._connection = http.client.HTTPConnection(host, timeout=TIMEOUT)
        self._connection.request("POST", f"/{path}/infer", body, {"Content-Type": "application/json"})
        with self._connection.getresponse() as answer:
            return answer.status, answer.read()

    def close(self):
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()


def _photo(numbers):
    from keras_crossvit.exporting.serving_requests import encoded

    return encoded(numbers.integers(0, 256, (60, 50, 3), dtype="uint8"), "PNG")


def _resident_megabytes(pid):
    """Resident memory of a process."""
    (line,) = (each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
