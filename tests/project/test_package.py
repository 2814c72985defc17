"""What a user gets: a light import, a quick command, and a wheel that holds both packages and nothing else."""

import configparser
import json
import os
import resource
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import tfq_fine

ROOT = Path(__file__).parents[2]
PACKAGES = {"tfq_fine": ROOT, "tfq_converters": ROOT / "converters"}
HEAVY = ("tensorflow", "keras", "tf_keras", "tensorflow_model_optimization", "matplotlib", "sklearn")


def python(code: str, path: list[Path] | None = None) -> str:
    """What a fresh interpreter prints, with nothing of the project in reach but `path`."""
    roots = [ROOT, ROOT / "converters"] if path is None else path
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots))}
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        cwd=Path.home(),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ------------------------------------------------------------------------------------------------ import


def test_the_import_loads_no_framework_and_no_part_of_the_package():
    loaded = json.loads(python("import sys, json, tfq_fine; print(json.dumps(sorted(sys.modules)))"))
    assert "tfq_fine" in loaded
    assert [name for name in loaded if name.startswith(("tfq_fine.", "tfq_converters", *HEAVY, "numpy"))] == []


def test_all_public_names_load_without_a_framework():
    code = f"""
        import sys, tfq_fine
        for name in tfq_fine.__all__:
            getattr(tfq_fine, name)
        print([name for name in {HEAVY} if name in sys.modules])
    """
    assert python(code) == "[]"


def test_the_import_leaves_the_environment_and_tf_keras_alone():
    pytest.importorskip("tensorflow")
    code = """
        import os
        import tensorflow as tf
        keras, environment = tf.keras, dict(os.environ)
        import tfq_fine
        [getattr(tfq_fine, name) for name in tfq_fine.__all__]
        assert dict(os.environ) == environment
        assert tf.keras is keras
        print(tf.keras.__version__[0])
    """
    assert python(code) == "3"


def test_public_names():
    assert callable(tfq_fine.quantize)
    assert callable(tfq_fine.verify)
    assert callable(tfq_fine.calibrate)
    assert issubclass(tfq_fine.TfqError, ValueError)
    assert set(tfq_fine._MODULES) | {"__version__"} == set(tfq_fine.__all__)
    assert set(tfq_fine.__all__) <= set(dir(tfq_fine))
    with pytest.raises(AttributeError, match="has no attribute 'quantise'"):
        tfq_fine.quantise  # noqa: B018


def test_no_public_name_is_the_name_of_a_module():
    """`import tfq_fine.quantize` would otherwise put the module in the function's place."""
    taken = {path.stem for path in (ROOT / "tfq_fine").iterdir()}
    assert "data" in taken
    assert taken & set(tfq_fine.__all__) == set()


# ------------------------------------------------------------------------------------------------ command


def test_help_is_quick():
    """Seconds of processor time, the least of three runs: the machine may be busy with other tests."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        text = python("import runpy, sys; sys.argv[1:] = ['--help']; runpy.run_module('tfq_fine', run_name='__main__')")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert "quantize" in text
    assert "verify" in text
    assert min(seconds) < 0.5


# ------------------------------------------------------------------------------------------------ wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the checkout, so that no leftover of an earlier build gets into it."""
    copy = tmp_path_factory.mktemp("checkout") / "tfq_fine"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("tfq_fine", "converters", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-P", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(copy)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = target.glob("*.whl")
    return found


def test_the_wheel_holds_the_files_of_both_packages_and_no_other(wheel: Path):
    expected = set()
    for package, base in PACKAGES.items():
        files = (path for path in (base / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        expected |= {path.relative_to(base).as_posix() for path in files}
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == expected
    assert {"tfq_fine/py.typed", "tfq_converters/py.typed", "tfq_converters/kernels/kernels.json"} <= names


def test_the_layout_names_every_folder():
    layout = configparser.ConfigParser()
    layout.read(ROOT / "setup.cfg")
    named = layout["options"]["packages"].split()
    found = [
        ".".join(path.parent.relative_to(base).parts)
        for package, base in PACKAGES.items()
        for path in (base / package).rglob("__init__.py")
    ]
    assert sorted(named) == sorted(found)


def test_the_wheel_works_where_it_is_unpacked(wheel: Path, tmp_path: Path):
    target = tmp_path / "site"
    install = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
    ]
    done = subprocess.run([*install, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = """
        import importlib.metadata, json, tfq_fine, tfq_converters
        (command,) = importlib.metadata.distribution("tfq_fine").entry_points.select(group="console_scripts")
        names = [getattr(tfq_fine, name) is not None for name in tfq_fine.__all__]
        version = importlib.metadata.version("tfq_fine")
        print(json.dumps([command.name, command.value, version, tfq_fine.__file__, tfq_converters.__file__]))
    """
    name, value, version, *files = json.loads(python(code, path=[target]))
    assert (name, value, version) == ("tfq-fine", "tfq_fine.cli:main", tfq_fine.__version__)
    assert all(Path(file).is_relative_to(target) for file in files)
    assert (target / "bin" / "tfq-fine").exists()
