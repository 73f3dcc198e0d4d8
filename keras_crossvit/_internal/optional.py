"""Libraries that only some tasks need, and how to install them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType

from packaging.requirements import Requirement

from keras_crossvit._internal.errors import MissingLibraryError

_PACKAGE = "keras_crossvit"
_BACKENDS = ("jax", "tensorflow", "torch")


def require_library(module: str, extra: str | None = None, *, otherwise: str | None = None) -> ModuleType:
    """Imports a library that an extra installs.

    Args:
        module: Module to import, such as "matplotlib.pyplot".
        extra: Extra of this package that installs it. Defaults to None: the package itself requires it.
        otherwise: An alternative without the library, such as "use a .safetensors file". Defaults to None.

    Returns:
        The module.

    Raises:
        MissingLibraryError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        remedy = install_command(library, extra) + (f", or {otherwise}" if otherwise else "")
        raise MissingLibraryError(f"{library} is not installed. Run: {remedy}", name=library) from None


def install_command(library: str, extra: str | None = None) -> str:
    """Returns the command that installs a library, or everything that an extra lists.

    It names the libraries, not this package, so it works wherever the package was installed from.

    Args:
        library: Name of the missing module.
        extra: Extra of this package that lists it. Defaults to None: the package itself.
    """
    if library in _BACKENDS and extra is None:
        others = " or ".join(each for each in _BACKENDS if each != library)
        return f"pip install {library}, or set KERAS_BACKEND to {others}"
    return "pip install " + " ".join(f'"{each}"' for each in sorted(_requirements(extra)) or [library])


def _requirements(extra: str | None) -> Iterator[str]:
    """Yields what the package declares for an extra; nothing if it is not installed."""
    try:
        declared = metadata.requires(_PACKAGE) or ()
    except metadata.PackageNotFoundError:
        return
    for line in declared:
        requirement = Requirement(line)
        marker, requirement.marker = requirement.marker, None
        needed = [marker is None or marker.evaluate({"extra": name}) for name in ("", extra or "")]
        if needed != [extra is None, True]:
            continue
        if requirement.name.replace("-", "_") == _PACKAGE:
            for other in sorted(requirement.extras):
                yield from _requirements(other)
        else:
            yield str(requirement)
