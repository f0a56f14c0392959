"""A checkpoint's tensors by name, in whatever files they lie. Pickles are read without running what they hold."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from rm_grpc_server.errors import ModelLoadError
from rm_grpc_server.models.checkpoint import Checkpoint

_FIRST_LAYER = re.compile(r"(.*?)(?:encoder\.layer|layers)\.0\.")


class WeightFiles:
    """The tensors of a checkpoint; see `models.checkpoint.Checkpoint`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    @cached_property
    def _places(self) -> Mapping[str, Path]:
        places: dict[str, Path] = {}
        for path in self._checkpoint.weight_files:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt") as file:
                    names = list(file.keys())
            else:
                prefix = self._checkpoint.tensor_prefix(path)
                names = [prefix + name for name in unpickled(path)]
            if twice := sorted(places.keys() & set(names)):
                raise ModelLoadError(
                    f"{twice[0]} is in {places[twice[0]].name} and in {path.name}; remove the file that is not meant"
                )
            places |= dict.fromkeys(names, path)
        return places

    @cached_property
    def names(self) -> list[str]:
        """Names of all tensors, sorted."""
        return sorted(self._places)

    @property
    def are_pickled(self) -> bool:
        """Whether the body lies in a pickle under a name of its own, which Transformers does not find by itself."""
        return all(path.suffix != ".safetensors" for path in self._checkpoint.weight_files)

    def read(self, name: str) -> Tensor:
        """One tensor, on the CPU, as it is stored."""
        path = self._places[name]
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                tensor: Tensor = file.get_tensor(name)
                return tensor
        return unpickled(path)[name.removeprefix(self._checkpoint.tensor_prefix(path))]

    def each(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with its name, one at a time."""
        return ((name, self.read(name)) for name in self.names)

    def read_pickled(self) -> dict[str, Tensor]:
        """Every tensor of a checkpoint that is pickled under names which Transformers does not look for."""
        return {name: tensor for path in self._checkpoint.weight_files for name, tensor in unpickled(path).items()}

    @property
    def body_prefix(self) -> str:
        """What stands before `layers.0.` in the names of the decoder's tensors."""
        found = next((match for name in self.names if (match := _FIRST_LAYER.match(name))), None)
        return found.group(1) if found else ""


def unpickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickle by name, mapped and not read; nothing that it holds is run.

    Raises:
        ModelLoadError: it holds something else than tensors.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ModelLoadError(f"{path}: cannot be read as tensors alone, and nothing else is unpickled: {error}") from error
    if not isinstance(loaded, Mapping):
        raise ModelLoadError(f"{path}: holds a {type(loaded).__name__} where tensors by name are expected")
    return {name: tensor for name, tensor in loaded.items() if isinstance(tensor, Tensor)}
