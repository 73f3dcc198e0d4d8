"""What is made once in a test session, for all its workers."""

import os
import pickle

from filelock import FileLock


def made_once(tmp_path_factory, name, make):
    """Returns what `make(folder)` returned to the first worker that asked for the name; others wait for it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    result = folder / "result.pickle"
    with FileLock(f"{folder}.lock"):
        if not result.exists():
            folder.mkdir()
            result.write_bytes(pickle.dumps(make(folder)))
    return pickle.loads(result.read_bytes())
