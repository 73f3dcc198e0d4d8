"""What a load balancer does before servers."""

import contextlib
import itertools
import signal
import threading
import urllib.request

from tests.serving.server_process import free_ports, serving

INTERVAL = 0.1
TIMEOUT = 5


class LoadBalancer:
    """Asks servers again and again whether they are ready, as proxies do; a request goes to one that was.

    Nothing is sent twice: a request that fails has failed.
    """

    def __init__(self, urls):
        self._urls = urls
        self._ready = []
        self._number = itertools.count()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._check)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def url(self):
        """Returns the URL of a model, of ready servers in turn."""
        ready = self._ready
        return ready[next(self._number) % len(ready)]

    def wait_for(self, *urls):
        """Waits until these servers are ready, and no others."""
        while self._ready != list(urls):
            self._end.wait(INTERVAL / 10)

    def _check(self):
        while not self._end.wait(INTERVAL):
            self._ready = [each for each in self._urls if is_ready(each)]


def is_ready(url):
    """Whether the server of a model says so."""
    with contextlib.suppress(OSError):  # an answer of another status too
        urllib.request.urlopen(f"{url.partition('/models/')[0]}/health/ready", timeout=TIMEOUT).close()
        return True
    return False


@contextlib.contextmanager
def taking_turns(models, *options, drain_time):
    """Yields a load balancer, and an iterator that starts a server of each model and then ends the one before."""
    ports = [free_ports(3) for _ in range(2)]
    urls = [f"http://127.0.0.1:{each[0]}/v2/models/letters" for each in ports]
    with contextlib.ExitStack() as running, LoadBalancer(urls) as balancer:

        def turns():
            for number, model in enumerate(models):
                before = running.pop_all()
                given = {"ports": ports[number % 2], "ended_by": signal.SIGTERM}
                running.enter_context(serving(model, "--drain-time", drain_time, *options, **given))
                before.close()
                balancer.wait_for(urls[number % 2])
                yield number

        yield balancer, turns()
