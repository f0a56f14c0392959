"""Which devices a model's replicas run on, and the claims that keep two servers off the same one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from rm_grpc_server.errors import ConfigError, StartupError

_REQUEST = re.compile(r"(auto|cpu|cuda:\d+(?:,\d+)*)?(?:\s*(\d+) per replica)?")
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
CPU = ("cpu",)
_TINY = 32 * 2**20
_MOST_ON_CPU = 4


def plan_replicas(request: str, replicas: int, gpus: int) -> list[tuple[str, ...]]:
    """The devices of each replica.

    Args:
        request: `auto` (all GPUs, or the CPU where there is none), `cpu`, `cuda:0,1`, each with `N per replica` behind it
            where a replica spans several GPUs; or `N per replica` alone, which is `auto`.
        replicas: how many; 0 is as many as the devices give, and one on the CPU, see `replicas_on_cpu`.
        gpus: how many GPUs this machine shows.

    Raises:
        ConfigError: the request is not of that form, or asks for what there is not.
    """
    match = _REQUEST.fullmatch(request.strip())
    if match is None or not request.strip():
        raise ConfigError(f"devices: {request!r} is none of auto, cpu, cuda:0,1 and these with 'N per replica' behind them")
    where, each = match[1] or "auto", int(match[2] or 1)
    if where == "cpu" or (where == "auto" and not gpus):
        return [CPU * each] * (replicas or 1)
    indices = list(range(gpus)) if where == "auto" else [int(index) for index in where.removeprefix("cuda:").split(",")]
    if missing := [index for index in indices if index >= gpus]:
        raise ConfigError(f"devices: cuda:{missing[0]} is asked for, and this machine shows {gpus} GPUs")
    if len(set(indices)) < len(indices):
        raise ConfigError(f"devices: {request!r} names a GPU twice")
    if not each or len(indices) % each:
        raise ConfigError(f"devices: {len(indices)} GPUs cannot be split into {each} per replica")
    groups = [tuple(f"cuda:{index}" for index in indices[at : at + each]) for at in range(0, len(indices), each)]
    if replicas > len(groups):
        raise ConfigError(f"replicas: {replicas} are asked for, and the devices are enough for {len(groups)}")
    return groups[: replicas or None]


def replicas_on_cpu(weight_bytes: int, *, cores: int, memory: int) -> int:
    """How many replicas of a model are worth it on this many cores: forwards of one thread each waste no core on waiting.

    A tiny model is scored sooner than its conversations are encoded, so that one is enough; weights take half of the memory at
    most; more than four take long to start and gain little over threads.
    """
    if weight_bytes < _TINY:
        return 1
    return max(1, min(cores, _MOST_ON_CPU, memory // 2 // weight_bytes))


@cache
def count_gpus() -> int:
    """How many GPUs torch shows here; asked in a process of its own, so that this one holds no device and loads no torch."""
    if not any(Path(driver).exists() for driver in _DRIVERS):
        return 0
    script = "import torch; print(torch.cuda.device_count())"
    asked = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise StartupError(f"devices: GPUs cannot be counted: {asked.stderr.strip()[-500:]}")
    return int(asked.stdout)


def physical_names(devices: Sequence[str]) -> list[str]:
    """What CUDA_VISIBLE_DEVICES must hold for a process to see these devices and no others."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    indices = [int(device.removeprefix("cuda:")) for device in devices]
    return [shown.split(",")[index].strip() for index in indices] if shown else [str(index) for index in indices]


def visible(devices: Sequence[str]) -> str:
    """CUDA_VISIBLE_DEVICES of a process on these devices; empty for the CPU."""
    return ",".join(physical_names([device for device in devices if device != "cpu"]))


class Claims:
    """Devices that this server holds, by locked files that the system frees when the server is gone, however it goes.

    Args:
        folder: where the files are; the same for all servers of a machine.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / "rm-grpc-devices"
        self._held: dict[str, int] = {}

    def claim(self, devices: Sequence[str]) -> None:
        """Takes devices; the CPU is everybody's.

        Raises:
            StartupError: another server has one of them, or this one for another model.
        """
        for device in devices:
            if device == "cpu":
                continue
            [name] = physical_names([device])
            if device in self._held:
                raise StartupError(f"devices: {device} is claimed twice; give each model devices of its own")
            self._held[device] = self._lock(device, self._folder / f"gpu-{name}.lock")

    def release(self) -> None:
        """Gives all of them back."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def _lock(self, device: str, path: Path) -> int:
        try:
            descriptor = self._opened(path)
        except OSError as error:
            raise StartupError(f"devices: {device} cannot be claimed: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 64).decode(errors="replace").strip()
            os.close(descriptor)
            raise StartupError(
                f"devices: {device} is taken by another rm-grpc server (process {holder or 'unknown'}); choose others"
            ) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        return descriptor

    def _opened(self, path: Path) -> int:
        """The file, writable for servers of other users too, whatever the umask says."""
        if not self._folder.is_dir():
            self._folder.mkdir(exist_ok=True)
            self._folder.chmod(0o1777)
        with contextlib.suppress(FileNotFoundError):
            # Linux may refuse O_CREAT for another user's file in a folder like this one, though it is there and writable.
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        os.fchmod(descriptor, 0o666)
        return descriptor
