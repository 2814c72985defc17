"""Who may import whom: the rows of ARCHITECTURE.md, checked in the syntax trees; faces are loaded too."""

import ast
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each module imports only from its own row and from earlier ones; a folder stands for all that is in it.
ROWS = (
    ("tfq_converters.errors", "tfq_converters.brief", "tfq_converters.graph"),
    ("tfq_converters.quantized", "tfq_converters.files"),
    ("tfq_converters.operators", "tfq_converters.graph_edit"),
    ("tfq_converters.kernels", "tfq_converters.flatbuffer"),
    ("tfq_converters.runtime", "tfq_converters.realize"),
    ("tfq_converters.check", "tfq_converters.reading", "tfq_converters.probe"),
    ("tfq_converters.writer",),
    (
        "tfq_fine.request",
        "tfq_fine.data",
        "tfq_fine.devices",
        "tfq_fine.progress",
    ),
    ("tfq_fine.numerics", "tfq_fine.emulation"),
    ("tfq_fine.algorithms",),
    ("tfq_fine.calibration",),
    (
        "tfq_fine.planning",
        "tfq_fine.transforms",
    ),
    ("tfq_fine.activations",),
    (
        "tfq_fine.placement",
        "tfq_fine.weights",
    ),
    ("tfq_fine.report",),
    ("tfq_fine.verification",),
    ("tfq_fine.variants",),
    ("tfq_fine.layers",),
    ("tfq_fine.tfmot",),
    ("tfq_fine.session",),
    ("tfq_fine.api",),
    ("tfq_fine.mixed_precision",),
    (
        "tfq_fine.cli",
        "tfq_fine.__main__",
    ),
)
FACADE = "tfq_fine"  # the package itself: names its modules for type checkers, and loads them on demand
# The rooms of both packages (modules and folders at the top) have faces: others import the names in the `__init__` of a
# folder, never its modules. `face` loads those names on demand.
PACKAGES, FACE = ("tfq_fine", "tfq_converters"), "tfq_converters.face"
MOST_ROOMS = {"tfq_fine": 23, "tfq_converters": 15}  # side by side

# Loaded only when a Keras model is read or wrapped: imported inside functions, and only in these modules.
FRAMEWORKS = ("keras", "tensorflow", "tf_keras", "h5py", "google.protobuf")  # with what comes with them
FRAMEWORK_MODULES = (
    "tfq_converters.reading.*",
    "tfq_converters.runtime.runner",
    "tfq_converters.probe.runtimes",
    "tfq_fine.emulation*",
    "tfq_fine.layers*",
    "tfq_fine.weights.reconstruction*",
    "tfq_fine.tfmot*",
    "tfq_fine.data*",
)
# Define Keras layers, and so import Keras at their top: themselves loaded when a public name is first used.
KERAS_CLASSES = (
    *("tfq_fine.layers.fine_quantize", "tfq_fine.layers.activation_range", "tfq_fine.layers.file_layer"),
    "tfq_fine.layers.fitted_kernel",
    "tfq_fine.layers.trained_scale",
    "tfq_fine.layers.kernel_scales",
    "tfq_fine.layers.serialization",
    "tfq_fine.tfmot.config",
)
# Load modules of their own by name when they are needed, so that the import and `--help` stay quick.
BY_NAME = (*PACKAGES, "tfq_fine.cli.program")
# Extras that only some users install: imported inside functions, anywhere.
OPTIONAL = ("IPython", "jinja2", "sklearn", "markupsafe", "matplotlib", "tensorflow_model_optimization", "tflite_micro")
# Start interpreters: the first for all that is run, the second, in child processes, to compare runtimes.
INTERPRETERS = ("tfq_converters.runtime.runner", "tfq_converters.probe.runtimes", "tfq_fine.devices.arena")
# Imported by one module each, at its top.
SOLE_OWNERS = {
    "ai_edge_litert.schema_py_generated": "tfq_converters.flatbuffer",
    "ai_edge_litert.interpreter": "tfq_converters.runtime.runner",
    "flatbuffers": "tfq_converters.flatbuffer",
}


@dataclass(frozen=True)
class Import:
    """One imported name: `from a import b` is a.b."""

    name: str
    line: int
    in_function: bool
    for_types: bool  # under `if TYPE_CHECKING`


@cache
def sources() -> dict[str, str]:
    """Module name -> source text, of both packages."""
    found = {}
    for base, package in ((ROOT, "tfq_fine"), (ROOT / "converters", "tfq_converters")):
        for path in sorted((base / package).rglob("*.py")):
            name = ".".join(path.relative_to(base).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path.read_text()
    return found


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


@cache
def imports(source: str) -> tuple[Import, ...]:
    """Every import of a module, wherever it stands."""

    def walk(node: ast.AST, in_function: bool, for_types: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, in_function, for_types)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import(
                    "." * node.level + f"{node.module or ''}.{alias.name}", node.lineno, in_function, for_types
                )
        for_types = for_types or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        in_function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, in_function, for_types)

    return tuple(walk(parsed(source), False, False))


@cache
def faces() -> dict[str, dict[str, str]]:
    """Folder with a face -> its public names -> the module of each, as the `__init__` of the folder says."""
    calling = {module: source for module, source in sources().items() if "face(" in source}
    return {module: homes for module, source in calling.items() if (homes := face_table(module, source))}


def face_table(module: str, source: str) -> dict[str, str]:
    """Public name -> module, from the call of `face` in a folder's `__init__`; empty where there is none."""
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "face":
            table = ast.literal_eval(node.args[1])
            return {name: f"{module}.{home}" for home, names in table.items() for name in names.split()}
    return {}


def room(name: str) -> str:
    """Return the room that a module or name is in: a module or folder at the top of its package."""
    return ".".join(name.split(".")[:2])


def defined_in(name: str) -> str:
    """The module that an imported name comes from: through the face, where it was imported from one."""
    package, _, last = name.rpartition(".")
    home = faces().get(package, {}).get(last)
    return name if name in sources() else home or package


def row(module: str) -> int | None:
    """Index of the row that `module` is in."""
    for index, names in enumerate(ROWS):
        if any(within(module, name) for name in names):
            return index
    return None


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def problems(module: str, source: str) -> list[str]:
    """What is wrong with the imports of one module."""
    found = []
    own_row = row(module)
    if own_row is None and module not in PACKAGES:
        found.append(f"{module}: in no row; name it in ROWS here and in ARCHITECTURE.md")
    for item in imports(source):
        where = f"{module}:{item.line} imports {item.name}"
        if item.name.startswith("."):
            found.append(f"{where}: relative")
        elif within(item.name, "tfq_fine") or within(item.name, "tfq_converters"):
            found += [f"{where}: {problem}" for problem in own_problems(module, own_row, item)]
        elif any(within(item.name, name) for name in FRAMEWORKS):
            if not any(fnmatch(module, allowed) for allowed in FRAMEWORK_MODULES):
                found.append(f"{where}: not one of the modules that read or wrap Keras models")
            elif not item.in_function and not item.for_types and module not in KERAS_CLASSES:
                found.append(f"{where}: at the top, where it is loaded with the module")
        elif any(within(item.name, name) for name in OPTIONAL):
            if not item.in_function and module not in KERAS_CLASSES:
                found.append(f"{where}: at the top, though not everyone has it")
        elif item.in_function:
            found.append(f"{where}: hidden in a function")
        for owned, owner in SOLE_OWNERS.items():
            if within(item.name, owned) and not within(module, owner):
                found.append(f"{where}: only {owner} may")
    return found + hidden_ways(module, source)


def own_problems(module: str, own_row: int | None, item: Import) -> list[str]:
    if module == FACADE:
        return [] if item.for_types else ["the package loads its modules on demand"]
    found = ["hidden in a function"] if item.in_function else []
    if item.name == FACE:
        return found if module in faces() else [*found, "only the folders with faces use it"]
    if item.name not in PACKAGES and room(module) != room(item.name):
        found += face_problems(item.name)
    late = any(within(defined_in(item.name), name) for name in KERAS_CLASSES)
    if late and not item.for_types and module not in KERAS_CLASSES:
        found.append("loads Keras with it")
    other = row(item.name)
    if other is None:
        # `import tfq_fine` or `from tfq_fine import x`: the facade, for the last row alone
        if own_row != len(ROWS) - 1:
            found.append("only the last row may use the package's facade")
    elif own_row is not None and other > own_row:
        found.append("a later row")
    return found


def face_problems(name: str) -> list[str]:
    """List what is wrong with importing `name` from another room."""
    package, _, last = name.rpartition(".")
    if name in faces() or last in faces().get(package, {}):
        return []
    if package == room(name) and package not in faces() and not last.startswith("_"):  # a module at the top
        return []
    return ["not a name in the face of its folder"]


def hidden_ways(module: str, source: str) -> list[str]:
    """Imports that are no import statements, and interpreters that come with a framework."""
    found = []
    for node in ast.walk(parsed(source)):
        by_name = isinstance(node, ast.Name) and node.id in ("__import__", "import_module")
        by_call = isinstance(node, ast.Attribute) and node.attr == "import_module"
        allowed = any(fnmatch(module, name) for name in (*BY_NAME, *FRAMEWORK_MODULES))
        if (by_name or by_call) and not allowed:
            found.append(f"{module}:{node.lineno}: imports by name")
        if isinstance(node, ast.Attribute) and node.attr == "Interpreter" and module not in INTERPRETERS:
            found.append(f"{module}:{node.lineno}: only {' and '.join(INTERPRETERS)} may start an interpreter")
    return found


@pytest.mark.parametrize("module", sorted(sources()))
def test_imports(module: str):
    assert problems(module, sources()[module]) == []


def test_no_import_cycles():
    modules = sources()
    edges: dict[str, set[str]] = {}
    for module, source in modules.items():
        for item in imports(source):
            target = defined_in(item.name)
            if target in modules and target != module and not item.for_types:
                edges.setdefault(module, set()).add(target)
    try:
        order = list(TopologicalSorter(edges).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    assert order


def test_no_cycles_between_rooms():
    """The modules of two rooms may form no cycle; nor may the rooms, or neither could be understood alone."""
    edges: dict[str, set[str]] = {}
    for module, source in sources().items():
        for item in imports(source):
            if (
                {item.name.split(".")[0]} <= {*PACKAGES}
                and item.name not in (FACE, *PACKAGES)
                and module not in PACKAGES
            ):
                edges.setdefault(room(module), set()).add(room(item.name))
    order = TopologicalSorter({source: targets - {source} for source, targets in edges.items()})
    try:
        assert len(list(order.static_order())) > 30
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("package", PACKAGES)
def test_few_rooms_side_by_side(package: str):
    rooms = {room(module) for module in sources() if within(module, package)} - {package}
    assert len(rooms) <= MOST_ROOMS[package]
    folders = {name for name in rooms if any(within(module, name) and module != name for module in sources())}
    assert folders <= set(faces()), "a folder without a face"


@pytest.mark.parametrize("folder", sorted(faces()))
def test_a_face_says_one_thing_thrice(folder: str):
    """To the loader, to type checkers, and in `__all__`; no name is that of another module of the folder."""
    source, table = sources()[folder], faces()[folder]
    for_types = {item.name.rpartition(".")[2]: item.name for item in imports(source) if item.for_types}
    assert {name: defined_in_module(full) for name, full in for_types.items()} == table
    (public,) = (
        ast.literal_eval(node.value)
        for node in parsed(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert sorted(public) == sorted(table)
    for name, home in table.items():
        is_module = f"{folder}.{name}" in sources()
        assert not is_module or home == for_types[name] == f"{folder}.{name}", "a module hides the name"


def defined_in_module(name: str) -> str:
    """The module that `from module import name` takes a name from; the name itself where that is a module."""
    return name if name in sources() else name.rpartition(".")[0]


def test_faces_load_what_they_name():
    for folder, table in faces().items():
        if folder == "tfq_fine.tfmot":  # an extra, which switches tf.keras; `test_tfmot` loads it
            continue
        module = importlib.import_module(folder)
        assert set(table) <= set(dir(module))
        for name, home in table.items():
            expected = importlib.import_module(home)
            assert getattr(module, name) is (expected if home == f"{folder}.{name}" else getattr(expected, name))
        with pytest.raises(AttributeError, match="has no attribute 'absent'"):
            module.absent  # noqa: B018


WRONG = {
    "a module of a folder, from another room": (
        "tfq_fine.planning.plan",
        "from tfq_converters.kernels.queries import Target",
        "not a name in the face",
    ),
    "a module of a folder, from a room of its own package": (
        "tfq_converters.check.run",
        "from tfq_converters.runtime.runner import Runner",
        "not a name in the face",
    ),
    "a module through its face": (
        "tfq_fine.planning.plan",
        "from tfq_converters.kernels import queries",
        "not a name in the",
    ),
    "a private name": ("tfq_fine.planning.plan", "from tfq_converters.graph import _hidden", "not a name in the face"),
    "the faces' function": ("tfq_converters.graph", "from tfq_converters import face", "only the folders with faces"),
    "up, through a face": ("tfq_converters.graph", "from tfq_converters.runtime import Runner", "a later row"),
    "up from the converters": ("tfq_converters.graph", "from tfq_fine.request import WeightSpec", "a later row"),
    "a module of a folder of the other package": (
        "tfq_fine.api",
        "from tfq_fine.planning.plan import make_plan",
        "not a name in the face",
    ),
    "a later row": ("tfq_fine.request.specs", "from tfq_fine.planning import Plan", "a later row"),
    "a later row, for types": (
        "tfq_fine.request.specs",
        "if TYPE_CHECKING:\n    from tfq_fine.planning import Plan",
        "a later row",
    ),
    "hidden in a function": (
        "tfq_fine.api",
        "def f():\n    from tfq_fine.request import Recipe",
        "hidden in a function",
    ),
    "hidden in a method": ("tfq_fine.api", "class A:\n    def f(self):\n        import json", "hidden in a function"),
    "Keras at the top": ("tfq_converters.reading.reader", "import keras", "at the top"),
    "TensorFlow elsewhere": (
        "tfq_fine.planning.plan",
        "def f():\n    import tensorflow as tf",
        "not one of the modules",
    ),
    "an extra at the top": ("tfq_fine.report.html", "from jinja2 import Template", "not everyone has it"),
    "the schema elsewhere": (
        "tfq_fine.planning.plan",
        "from ai_edge_litert import schema_py_generated",
        "only tfq_converters.fl",
    ),
    "an interpreter elsewhere": (
        "tfq_fine.planning.plan",
        "from ai_edge_litert.interpreter import Interpreter",
        "only tfq_conv",
    ),
    "a framework's interpreter": (
        "tfq_fine.planning.plan",
        "tf.lite.Interpreter(model_content=b'')",
        "may start an interpreter",
    ),
    "by name": ("tfq_fine.planning.plan", "importlib.import_module('keras')", "imports by name"),
    "by the built-in": ("tfq_fine.planning.plan", "__import__('keras')", "imports by name"),
    "a module in no row": ("tfq_fine.helpers", "", "in no row"),
    "relative": ("tfq_fine.planning.plan", "from .specs import WeightSpec", "relative"),
    "a Keras layer": ("tfq_fine.api", "from tfq_fine.layers import FineQuantize", "loads Keras with it"),
    "the facade from within": ("tfq_fine.planning.plan", "import tfq_fine as tfq", "only the last row"),
    "the facade loads": ("tfq_fine", "from tfq_fine.planning import Plan", "on demand"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_import_is_found(case: str):
    module, source, expected = WRONG[case]
    (problem,) = problems(module, source)
    assert expected in problem


RIGHT = {
    "an earlier row": ("tfq_fine.planning.plan", "from tfq_fine.request import WeightSpec"),
    "a name in a face": ("tfq_fine.planning.plan", "from tfq_converters.kernels import Target"),
    "a name in a face of a folder in a folder": (
        "tfq_fine.emulation.resizing",
        "from tfq_converters.kernels.arithmetic import between",
    ),
    "a module that is public as a whole": ("tfq_fine.planning.plan", "from tfq_converters.operators import lstm"),
    "a module of one's own room": ("tfq_converters.kernels.costs", "from tfq_converters.kernels.table import load"),
    "a module at the top": ("tfq_fine.planning.plan", "from tfq_converters.graph import Graph"),
    "the same row": ("tfq_fine.placement.float_islands", "from tfq_fine.weights import quantize"),
    "a package of an earlier row": ("tfq_fine.numerics.affine", "from tfq_converters import flatbuffer"),
    "Keras in a function": ("tfq_converters.reading.reader", "def f():\n    import keras"),
    "Keras for types": ("tfq_converters.reading.reader", "if TYPE_CHECKING:\n    import keras"),
    "an extra in a function": ("tfq_fine.planning.plan", "def f():\n    import matplotlib.pyplot"),
    "the schema": ("tfq_converters.flatbuffer", "from ai_edge_litert import schema_py_generated as schema"),
    "the facade from the command line": ("tfq_fine.cli", "import tfq_fine as tfq"),
    "the facade for types": ("tfq_fine", "if TYPE_CHECKING:\n    from tfq_fine.api import quantize"),
    "packages of others": ("tfq_fine.planning.plan", "import numpy as np\nfrom kerastuner import x"),
}


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_import_is_let_through(case: str):
    assert problems(*RIGHT[case]) == []


def test_the_walk_sees_both_packages():
    assert {"tfq_fine", "tfq_fine.data.cutting", "tfq_converters.graph", "tfq_converters.flatbuffer"} <= set(sources())
