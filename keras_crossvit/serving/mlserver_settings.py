"""MLServer's settings, of which nothing but the code decides."""

from __future__ import annotations

from typing import Any

import mlserver
from mlserver.settings import ModelParameters


class _Explicit:
    """Takes values from arguments only.

    MLServer's own classes read `.env` in the current folder and `MLSERVER_*` of the environment, too: a logging
    configuration of theirs runs code, and CORS would let every website ask a server on this machine.
    """

    @classmethod
    def settings_customise_sources(cls, settings_cls: type, init_settings: Any, **others: Any) -> tuple[Any, ...]:
        return (init_settings,)


class ExplicitSettings(_Explicit, mlserver.Settings):
    """Settings of the server."""


class ExplicitModelSettings(_Explicit, mlserver.ModelSettings):
    """Settings of a model."""


class ExplicitModelParameters(_Explicit, ModelParameters):
    """Parameters of a model."""
