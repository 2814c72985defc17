"""Who may import whom: the rows of ARCHITECTURE.md, checked in the syntax trees, so that nothing has to be imported."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each module imports only from its own row and from earlier ones; a folder stands for all that is in it.
ROWS = (
    ("tfq_converters",),
    ("tfq_fine.granularity", "tfq_fine.max_drop"),
    ("tfq_fine.specs",),
    ("tfq_fine.affine", "tfq_fine.metrics", "tfq_fine.sizes", "tfq_fine.histogram", "tfq_fine.kept_samples"),
    ("tfq_fine.statistics",),
    ("tfq_fine.extension", "tfq_fine.sampled_values"),
    ("tfq_fine.observers", "tfq_fine.algorithms", "tfq_fine.equalization"),
    ("tfq_fine.indices", "tfq_fine.plan", "tfq_fine.recipe", "tfq_fine.presets"),
    (
        "tfq_fine.data",
        "tfq_fine.data_warnings",
        "tfq_fine.automatic",
        "tfq_fine.ranges",
        "tfq_fine.representative",
        "tfq_fine.observation",
        "tfq_fine.calibration",
        "tfq_fine.sampling",
        "tfq_fine.encodings",
        "tfq_fine.implied_ranges",
        "tfq_fine.borders",
        "tfq_fine.minimum_cut",
        "tfq_fine.masks",
        "tfq_fine.movers",
        "tfq_fine.placement",
        "tfq_fine.poles",
        "tfq_fine.quantizer",
    ),
    ("tfq_fine.report", "tfq_fine.task_metrics"),
    ("tfq_fine.verification", "tfq_fine.summary"),
    ("tfq_fine.judging",),
    ("tfq_fine.numbers", "tfq_fine.bias_choice", "tfq_fine.verdict", "tfq_fine.signatures"),
    ("tfq_fine.trial",),
    ("tfq_fine.float_parts",),
    ("tfq_fine.repairs", "tfq_fine.islands"),
    ("tfq_fine.progress", "tfq_fine.options"),
    ("tfq_fine.search",),
    ("tfq_fine.layers",),
    ("tfq_fine.tfmot",),
    ("tfq_fine.pipeline",),
    ("tfq_fine.api",),
    ("tfq_fine.cli", "tfq_fine.__main__"),
)
FACADE = "tfq_fine"  # the package itself: names its modules for type checkers, and loads them on demand

# Loaded only when a Keras model is read or wrapped: imported inside functions, and only in these modules.
FRAMEWORKS = ("keras", "tensorflow", "tf_keras", "h5py", "google.protobuf")  # with what comes with them
FRAMEWORK_MODULES = (
    "tfq_converters.reading.*",
    "tfq_converters.runtime",
    "tfq_converters.probe.runtimes",
    "tfq_fine.layers*",
    "tfq_fine.tfmot*",
    "tfq_fine.data*",
)
# Define Keras layers, and so import Keras at their top: themselves loaded when a public name is first used.
KERAS_CLASSES = (
    *("tfq_fine.layers.fine_quantize", "tfq_fine.layers.activation_range", "tfq_fine.layers.file_layer"),
    "tfq_fine.layers.trained_scale",
    "tfq_fine.layers.holder",
    "tfq_fine.tfmot.config",
)
# Load modules of their own by name when they are needed, so that the import and `--help` stay quick.
BY_NAME = (FACADE, "tfq_fine.cli.program", "tfq_fine.layers", "tfq_fine.tfmot")
# Extras that only some users install: imported inside functions, anywhere.
OPTIONAL = ("jinja2", "markupsafe", "matplotlib", "tensorflow_model_optimization", "tflite_micro")
# Start interpreters: the first for all that is run, the second, in child processes, to compare runtimes.
INTERPRETERS = ("tfq_converters.runtime", "tfq_converters.probe.runtimes")
# Imported by one module each, at its top.
SOLE_OWNERS = {
    "ai_edge_litert.schema_py_generated": "tfq_converters.flatbuffer",
    "ai_edge_litert.interpreter": "tfq_converters.runtime",
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


def imports(source: str) -> Iterator[Import]:
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

    yield from walk(ast.parse(source), False, False)


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
    if own_row is None and module != FACADE:
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
    late = any(within(item.name, name) for name in KERAS_CLASSES)
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


def hidden_ways(module: str, source: str) -> list[str]:
    """Imports that are no import statements, and interpreters that come with a framework."""
    found = []
    for node in ast.walk(ast.parse(source)):
        by_name = isinstance(node, ast.Name) and node.id == "__import__"
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
            target = item.name if item.name in modules else item.name.rpartition(".")[0]
            if target in modules and target != module and not item.for_types:
                edges.setdefault(module, set()).add(target)
    try:
        order = list(TopologicalSorter(edges).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    assert order


WRONG = {
    "up from the converters": ("tfq_converters.graph", "from tfq_fine.specs import WeightSpec", "a later row"),
    "a later row": ("tfq_fine.specs", "from tfq_fine.plan import Plan", "a later row"),
    "a later row, for types": (
        "tfq_fine.specs",
        "if TYPE_CHECKING:\n    from tfq_fine.plan import Plan",
        "a later row",
    ),
    "hidden in a function": ("tfq_fine.api", "def f():\n    from tfq_fine import plan", "hidden in a function"),
    "hidden in a method": ("tfq_fine.api", "class A:\n    def f(self):\n        import json", "hidden in a function"),
    "Keras at the top": ("tfq_converters.reading.reader", "import keras", "at the top"),
    "TensorFlow elsewhere": ("tfq_fine.plan", "def f():\n    import tensorflow as tf", "not one of the modules"),
    "an extra at the top": ("tfq_fine.report.html", "from jinja2 import Template", "not everyone has it"),
    "the schema elsewhere": (
        "tfq_fine.plan",
        "from ai_edge_litert import schema_py_generated",
        "only tfq_converters.fl",
    ),
    "an interpreter elsewhere": (
        "tfq_fine.plan",
        "from ai_edge_litert.interpreter import Interpreter",
        "only tfq_conv",
    ),
    "a framework's interpreter": (
        "tfq_fine.plan",
        "tf.lite.Interpreter(model_content=b'')",
        "may start an interpreter",
    ),
    "by name": ("tfq_fine.plan", "importlib.import_module('keras')", "imports by name"),
    "by the built-in": ("tfq_fine.plan", "__import__('keras')", "imports by name"),
    "a module in no row": ("tfq_fine.helpers", "", "in no row"),
    "relative": ("tfq_fine.plan", "from .specs import WeightSpec", "relative"),
    "a Keras layer": ("tfq_fine.api", "from tfq_fine.layers.fine_quantize import FineQuantize", "loads Keras with it"),
    "the facade from within": ("tfq_fine.plan", "import tfq_fine as tfq", "only the last row"),
    "the facade loads": ("tfq_fine", "from tfq_fine.plan import Plan", "on demand"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_import_is_found(case: str):
    module, source, expected = WRONG[case]
    (problem,) = problems(module, source)
    assert expected in problem


RIGHT = {
    "an earlier row": ("tfq_fine.plan", "from tfq_fine.specs import WeightSpec"),
    "the same row": ("tfq_fine.placement", "from tfq_fine.statistics import Statistics"),
    "a package of an earlier row": ("tfq_fine.affine", "from tfq_converters import flatbuffer"),
    "Keras in a function": ("tfq_converters.reading.reader", "def f():\n    import keras"),
    "Keras for types": ("tfq_converters.reading.reader", "if TYPE_CHECKING:\n    import keras"),
    "an extra in a function": ("tfq_fine.plan", "def f():\n    import matplotlib.pyplot"),
    "the schema": ("tfq_converters.flatbuffer", "from ai_edge_litert import schema_py_generated as schema"),
    "the facade from the command line": ("tfq_fine.cli", "import tfq_fine as tfq"),
    "the facade for types": ("tfq_fine", "if TYPE_CHECKING:\n    from tfq_fine.api import quantize"),
    "packages of others": ("tfq_fine.plan", "import numpy as np\nfrom kerastuner import x"),
}


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_import_is_let_through(case: str):
    assert problems(*RIGHT[case]) == []


def test_the_walk_sees_both_packages():
    assert {"tfq_fine", "tfq_fine.data.cutting", "tfq_converters.graph", "tfq_converters.flatbuffer"} <= set(sources())
