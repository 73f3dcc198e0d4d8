"""Gives damaged files to every reader, in worker processes: each case ends in a result or in a clear error."""

import collections
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from tests.soak import readers

START_SECONDS = 300  # of a worker, which imports TensorFlow
LIMIT_BYTES = 4 * 2**30  # that a worker may take above what it has at its start
LONGEST_MESSAGE = 3000
SAVED_PER_DEFECT = 2
OUTCOMES = ("read", "refused", "crashed", "failed")
_ENDED = "the process ended"
_MEASURING = "/keras_crossvit/comparing/measuring.py"  # a process of its own for each file of `compare`
_PROGRAMS = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "pty.spawn"}


def fuzz(rows, seconds, seed, failures, workers, log):
    """Runs cases of the kinds in `rows` for a time and counts what became of them there."""
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder:
        log("damaged files: writes a valid file of each kind")
        files = _valid_files(rows, Path(folder, "valid"))
        share = seconds / sum(readers.KINDS[name].weight for name in rows)
        pool = [_Worker(i, workers, Path(folder), files, rows, failures, seed, log, share) for i in range(workers)]
        try:
            for each in pool:
                each.start()
            for each in pool:
                each.join()
        finally:
            for each in pool:
                each.stopped = True
                each.join()


def repeat(folder):
    """Reads the files of a saved case once more, in this process, and shows what happens."""
    kind = Path(f"{folder}.txt").read_text().splitlines()[0]
    print(readers.KINDS[kind].read(folder))


def _valid_files(kinds, folder):
    """Returns the contents of valid files by kind and name, which a process of its own writes."""
    folders = {name: folder / str(i) for i, name in enumerate(kinds)}
    process = multiprocessing.get_context("spawn").Process(target=readers.make, args=(folders,))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError("The valid files could not be written; see above.")
    return {
        name: {str(each.relative_to(below)): each.read_bytes() for each in below.rglob("*") if each.is_file()}
        for name, below in folders.items()
    }


class _Worker(threading.Thread):
    """Runs its part of the cases in a process, which is started again when it dies or takes too long."""

    def __init__(self, index, step, folder, files, rows, failures, seed, log, seconds):
        super().__init__()
        self.stopped = False
        self._first, self._step, self._files, self._rows = index, step, files, rows
        self._folder, self._failures, self._seed = folder / f"worker-{index}", failures, seed
        self._log, self._seconds = log, seconds
        self._defects = collections.Counter()
        self._process = None

    def run(self):
        for name, files in self._files.items():
            begin, number = time.monotonic(), self._first
            end = begin + self._seconds * readers.KINDS[name].weight
            while time.monotonic() < end and not self.stopped:
                began = time.monotonic()
                if self._process is None:
                    self._begin()
                    end += time.monotonic() - began
                number = self._run_cases(name, files, number, end)
            if self._first == 0:
                self._log(f"{name}: {_summary(self._rows[name])}")
        self._end()

    def _begin(self):
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, self._folder, self._seed), daemon=True)
        self._process.start()
        other.close()
        if not self._pipe.poll(START_SECONDS) or self._pipe.recv() != "ready":
            raise RuntimeError("A worker could not be started.")

    def _end(self):
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def _run_cases(self, name, files, number, end):
        self._pipe.send((name, files, number, self._step, end))
        while not self.stopped:
            try:
                if not self._pipe.poll(readers.KINDS[name].seconds):
                    self._fail(name, number, "took too long", "")
                    self._end()
                    return number + self._step
                message = self._pipe.recv()
            except (EOFError, ConnectionResetError):
                self._process.join()
                self._fail(name, number, f"{_ENDED} with {self._process.exitcode}", "")
                self._end()
                return number + self._step
            if message is None:
                return number
            outcome, text, seconds = message
            row = self._rows[name]
            row["longest seconds"] = max(row["longest seconds"], seconds)
            if outcome in ("read", "refused"):
                row[outcome] += 1
            else:
                self._fail(name, number, outcome, text)
            number += self._step
        return number

    def _fail(self, name, number, outcome, text):
        self._rows[name]["cases"] += 1
        is_crash = readers.KINDS[name].native and outcome.startswith(_ENDED)
        self._rows[name]["crashed" if is_crash else "failed"] += 1
        defect = (
            name,
            outcome.partition(":")[0],
            next((each for each in reversed(text.splitlines()) if "/keras_crossvit/" in each), ""),
        )
        self._defects[defect] += 1
        if self._defects[defect] > SAVED_PER_DEFECT:
            return
        self._log(f"{name}, case {number}: {outcome[:200]}")
        saved = self._failures / f"{name.replace(' ', '-').replace('/', '-')}-{number}"
        _write(readers.KINDS[name].case(self._files[name], number, self._seed), saved)
        Path(f"{saved}.txt").write_text(f"{name}\n{outcome}\n{text}", errors="backslashreplace")


def _write(files, folder):
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _summary(row):
    return f"{count_cases(row):,} cases, {', '.join(f'{row[each]:,} {each}' for each in OUTCOMES)}"


def count_cases(row):
    """Returns the number of cases in a row of counts."""
    return sum(row[each] for each in OUTCOMES)


# In a worker


def _work(pipe, folder, seed):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that counts
    temporary, cache, start = (folder / each for each in ("temporary", "cache", "start"))
    for each in (temporary, cache, start):
        each.mkdir()
    os.environ["XDG_CACHE_HOME"] = str(cache)
    os.environ["HOME"] = str(start)
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    os.chdir(start)
    readers.silence_libraries()
    readers.warm_up()
    _limit_memory()
    watch = _Watch(folder)
    pipe.send("ready")
    while True:
        name, files, number, step, end = pipe.recv()
        while time.monotonic() < end:
            pipe.send(_run_case(readers.KINDS[name], files, number, seed, folder / "case", watch))
            number += step
        pipe.send(None)


def _limit_memory():
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, resource.RLIM_INFINITY))


def _run_case(kind, files, number, seed, folder, watch):
    _write(kind.case(files, number, seed), folder)
    before = _names(folder.parent)
    watch.begin()
    start = time.monotonic()
    outcome, text = "read", ""
    try:
        kind.read(folder)
    except readers.MistakeError as error:
        outcome = _of_message(str(error))
    except Exception as error:
        outcome, text = _of_error(error), traceback.format_exc()
    seconds = time.monotonic() - start
    found = watch.end()
    if found:
        outcome, text = f"did what it must not: {found[0]}", ""
    elif new := [name for name in _names(folder.parent) - before if not kind.writes or kind.writes not in name]:
        outcome = f"wrote {new[0]}"
    return outcome, text, seconds


def _names(folder):
    """All files below a folder, but those of caches."""
    return {
        f"{parent}/{name}"
        for parent, _, names in os.walk(folder)
        for name in names
        if not parent.startswith((f"{folder}/cache", f"{folder}/temporary"))
    }


def _of_error(error):
    from keras_crossvit import CrossViTError

    is_clear = isinstance(error, CrossViTError) or (isinstance(error, OSError) and error.errno is not None)
    return _of_message(str(error)) if is_clear else f"{type(error).__name__}: {error}"


def _of_message(text):
    if len(text) > LONGEST_MESSAGE:
        return f"a message of {len(text)} characters: {text[:100]}"
    return "refused" if text.isprintable() else f"a message with control characters: {text[:200]!r}"


class _Watch:
    """Notices programs that a case starts, connections, and files that it writes outside of the worker's folder."""

    def __init__(self, folder):
        self._folder, self._is_on, self._found = str(folder), False, []
        sys.addaudithook(self._hear)

    def begin(self):
        self._is_on, self._found = True, []

    def end(self):
        self._is_on = False
        return self._found

    def _hear(self, event, arguments):
        if not self._is_on:
            return
        if event in _PROGRAMS and _MEASURING not in str(arguments):
            self._found.append(f"{event} {arguments}"[:300])
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            path, flags = Path(os.fsdecode(arguments[0])).absolute(), arguments[2]
            is_written = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if is_written and not str(path).startswith((self._folder, "/dev/null", "/proc")):
                self._found.append(f"open {path} to write")
