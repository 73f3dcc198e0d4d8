"""Python reads this when it starts. Keras and TensorFlow also import libraries that they do without where these are not
installed, as most users have it; here they do not find them, though others do. Nor are their objects, which all stay,
searched for garbage, and others seldom. Their import takes a third of the time."""

import contextlib
import gc
import importlib.machinery
import os
import sys

UNNEEDED = {"IPython", "jax", "matplotlib", "pandas", "sklearn"} - {os.environ.get("KERAS_BACKEND")}


@contextlib.contextmanager
def imported_quickly():
    names = UNNEEDED - sys.modules.keys()
    sys.modules.update(dict.fromkeys(names))
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 10, 50)
        gc.enable()
        for name in names:
            del sys.modules[name]


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in ("keras", "tensorflow"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = imported_quickly()(spec.loader.exec_module)
        return spec


sys.meta_path.insert(0, Finder)
