"""`keras-crossvit serve` as a process."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from typing import NamedTuple

from keras_crossvit.cli import main as cli


class Server(NamedTuple):
    """URLs of the model on a running server, the port of its metrics, its process, and what it printed if it ended."""

    rest: str
    grpc: str
    metrics_port: int
    pid: int
    printed: list[str]


@contextlib.contextmanager
def serving(path, *options, cwd=None, ports=None, ended_by=signal.SIGINT, **environment):
    """Serves a model as "letters"; on exit sends the server a signal and checks how it ends."""
    ports = ports or free_ports(3)
    named = zip(("--port", "--grpc-port", "--metrics-port"), ports, strict=True)
    command = [sys.executable, "-m", "keras_crossvit", "serve", path, "--name", "letters", "--threads", 1]
    command += [*(word for option in named for word in option), *options]
    url = f"http://127.0.0.1:{ports[0]}/v2/models/letters"
    with subprocess.Popen(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/ready", timeout=5).close()
                break
            assert process.poll() is None, process.stdout.read().decode()
            time.sleep(0.1)
        server = Server(url, f"grpc://127.0.0.1:{ports[1]}/v2/models/letters", ports[2], process.pid, [])
        yield server
        process.send_signal(ended_by)
        printed = process.communicate(timeout=60)[0].decode()
        server.printed.append(printed)
        assert process.returncode == (0 if ended_by == signal.SIGTERM else cli.EXIT_INTERRUPTED), printed
        assert url in printed
        if ended_by == signal.SIGINT:
            assert printed.rstrip().endswith(cli.NOTHING_LEFT + ".")  # no traceback follows


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
