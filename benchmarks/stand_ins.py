"""Lets the server's models, scoring and engine be imported where packages of its other rooms are not installed.

The forward pass needs torch, Transformers and NumPy. The modules around it also name gRPC statuses and declare settings when
they are imported; a stand-in for what is missing takes that, and nothing that a benchmark of the forward calls uses it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from benchmarks.places import ROOT

_PACKAGES = {
    "grpc": (),
    "google.protobuf": ("duration_pb2",),
    "google.rpc": ("error_details_pb2", "status_pb2"),
    "pydantic": (),
    "yaml": (),
}


class _Any(type):
    def __getattr__(cls, name: str) -> type[Anything]:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything

    def __getitem__(cls, _: object) -> type[Anything]:
        return Anything


class Anything(metaclass=_Any):
    """A class, a call, a decorator and a value, none of which does anything."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __init_subclass__(cls, **_: Any) -> None:
        pass

    def __call__(self, decorated: Any = None) -> Any:
        return decorated


class _StandIn(ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything


def import_from_checkout() -> list[str]:
    """Makes the server importable from a checkout; the packages that a stand-in was made for."""
    if (server := str(ROOT / "server")) not in sys.path:
        sys.path.append(server)
    missing = [package for package, modules in _PACKAGES.items() if not _is_there(package, modules)]
    for package in missing:
        _stand_in(package, _PACKAGES[package])
    return missing


def _is_there(package: str, modules: tuple[str, ...] = ()) -> bool:
    try:
        for name in (package, *(f"{package}.{module}" for module in modules)):
            import_module(name)
    except ImportError:
        return False
    return True


def _stand_in(package: str, modules: tuple[str, ...]) -> None:
    parent, _, name = package.rpartition(".")
    if parent:
        if not _is_there(parent):
            sys.modules[parent] = _StandIn(parent)
        setattr(sys.modules[parent], name, _StandIn(package))
    sys.modules[package] = _StandIn(package)
    for module in modules:
        sys.modules[f"{package}.{module}"] = _StandIn(f"{package}.{module}")
