"""A cache of the models trained here, by a hash of the code that trains them."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import keras

from examples.datasets.fetch import cache_dir


def trained(name: str, train: Callable[[], keras.Model]) -> keras.Model:
    """Return the result of `train`, which is kept until the module of `train` changes."""
    source = inspect.getsource(inspect.getmodule(train) or train)
    path = cache_dir() / "trained" / f"{name}-{sha256(source.encode()).hexdigest()[:12]}.keras"
    if not path.exists():
        model = train()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=path.parent) as folder:
            model.save(Path(folder) / path.name)
            (Path(folder) / path.name).replace(path)
    model = keras.models.load_model(path, compile=False)
    model.compile(jit_compile=False)
    return model
