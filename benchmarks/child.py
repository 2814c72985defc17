"""The command and the environment that run a module of the benchmarks in a process of its own."""

from pathlib import Path

from tfq_converters.runtime import python_command, python_environment

ROOT = str(Path(__file__).parents[1])


def command(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of this folder."""
    return python_command(f"benchmarks.{module}", *map(str, arguments))


def environment() -> dict[str, str]:
    """Return the environment to run it in."""
    return python_environment(ROOT)
