"""A synthetic model beyond 2 GB through the whole main job: time and peak memory, in a process of its own.

`python -m benchmarks.large_file [--gigabytes 3] [--recipe weight_only_int8]` writes a float file of that size (random
weights, FULLY_CONNECTED layers of 64 Mi values), quantizes it from its path, saves the result, and prints one line.
"""

import argparse
import os
import subprocess
import time
from pathlib import Path

import numpy as np

from benchmarks import child
from benchmarks.memory import peak_while_running
from tfq_converters import flatbuffer
from tfq_converters.files import temporary_folder
from tfq_converters.graph import Graph, Op, Options, Signature, Subgraph, Tensor

WIDTH, LAYER_BYTES = 8192, 8192 * 8192 * 4
MIB = 2**20


def write_float(path: Path, gigabytes: float) -> None:
    """A chain of square FULLY_CONNECTED layers; no two share a weight."""
    layers = max(1, round(gigabytes * 2**30 / LAYER_BYTES))
    rng = np.random.default_rng(0)
    tensors = [Tensor("x", (1, WIDTH), "float32")]
    ops = []
    values = {"fusedActivationFunction": 1, "weightsFormat": 0, "keepNumDims": False}
    options = Options("FullyConnectedOptions", values | {"asymmetricQuantizeInputs": False, "quantizedBiasType": 0})
    for n in range(layers):
        weight = rng.standard_normal((WIDTH, WIDTH), np.float32)
        weight *= np.float32(1.4 / np.sqrt(WIDTH))
        tensors += [
            Tensor(f"weight_{n}", weight.shape, "float32", data=weight),
            Tensor(f"y_{n}", (1, WIDTH), "float32"),
        ]
        source = 0 if n == 0 else 2 * n
        ops.append(Op("FULLY_CONNECTED", (source, 2 * n + 1, -1), (2 * n + 2,), options))
    output = 2 * layers
    signature = Signature("serving_default", 0, (("x", 0),), (("y", output),))
    graph = Graph((Subgraph("main", tuple(tensors), tuple(ops), (0,), (output,)),), (signature,))
    flatbuffer.save(graph, path)


def peak() -> int:
    """Return the peak resident memory of this program in MiB; `ru_maxrss` would count the parent process too."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def quantize(source: str, target: str, recipe: str) -> None:
    """The job of the child process."""
    import tfq_fine as tfq

    start, before = time.perf_counter(), peak()
    result = tfq.quantize(source, recipe)
    result.save(target)
    seconds = time.perf_counter() - start
    sizes = [os.path.getsize(path) // MIB for path in (source, target)]
    print(
        f"{recipe}: {sizes[0]} MiB -> {sizes[1]} MiB in {seconds:.0f} s; peak {peak()} MiB ({peak() / sizes[0]:.2f} of "
        f"the float file; {before} before)"
    )


def main() -> None:
    """Write the float file, quantize it in another process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--recipe", default="weight_only_int8")
    parser.add_argument("--child", nargs=2, metavar=("SOURCE", "TARGET"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        source_path, target_path = arguments.child
        quantize(source_path, target_path, arguments.recipe)
        return
    with temporary_folder() as folder:
        source, target = folder / "float.tflite", folder / "quantized.tflite"
        write_float(source, arguments.gigabytes)
        command = child.command("large_file", "--recipe", arguments.recipe)
        process = subprocess.Popen([*command, "--child", str(source), str(target)], env=child.environment())
        together = peak_while_running(process)
        if process.returncode:
            raise SystemExit(process.returncode)
        print(
            f"with the process that runs the file: {together // MIB} MiB ({together / os.path.getsize(source):.2f}; "
            "pages that both share count twice)"
        )


if __name__ == "__main__":
    main()
