"""Reading, realizing, writing, running and checking quantized TFLite files: what knows the format and the kernels.

Every folder has a face: the names in its `__init__` are what modules outside of the folder may import. They are loaded
when they are first used, since a child process that runs a file needs two modules of `runtime`, not all of them.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

Lookup = tuple[Callable[[str], Any], Callable[[], list[str]]]


def face(package: str, modules: Mapping[str, str]) -> Lookup:
    """Return the `__getattr__` and `__dir__` of a folder that loads its public names on demand (PEP 562).

    Args:
        package: name of the folder's package.
        modules: module of the folder -> its public names, with spaces between them. A module that is public as a whole
            names itself. No other name may be that of a module, since importing the module would replace it.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{homes[name]}")
        value = module if name == homes[name] else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    return load, lambda: sorted({*vars(sys.modules[package]), *homes})
