"""What is made once in a test session, for all its workers."""

import os

from filelock import FileLock


def made_once(tmp_path_factory, name, make):
    """Returns the folder that `make(folder)` fills; the first worker that asks for the name makes it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / f"shared-{name}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.unfinished")
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder
