"""What the other tools leave in float on the cases.

`PYTHONPATH=tests python -m support.keras_stock [GROUP ...]` measures it anew.

Both tools may take the process down, so that each model is converted in a process of its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.keras_cases import GROUPS, Case
from support.keras_groups import Arrays, data_of, float_ops, model_of
from tfq_converters import flatbuffer

CALIBRATION, SEED = 64, 0
Counts = dict[str, int | None]  # case -> operators left float; None: the tool fails


def stock_counts(group: str, cases: Sequence[Case]) -> Counts:
    """Per case, the float operators in the int8 file of TFLiteConverter."""
    return _in_children("stock", group, cases)


def litert_counts(group: str, cases: Sequence[Case]) -> Counts:
    """Per case, the float operators in the static int8 file of litert-quantizer."""
    return _in_children("litert", group, cases)


def _in_children(tool: str, group: str, cases: Sequence[Case]) -> Counts:
    """All cases as one model; each alone where that fails."""
    command = [sys.executable, "-P", __file__, "--child", tool, group, *(case.name for case in cases)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.strip().splitlines()[-1])
    if len(cases) == 1:
        return {cases[0].name: None}
    return {name: count for case in cases for name, count in _in_children(tool, group, [case]).items()}


def stock_file(group: str, cases: Sequence[Case]) -> bytes:
    """What TFLiteConverter makes of the cases in int8."""
    import tensorflow as tf

    data = data_of(cases, CALIBRATION, SEED)
    converter = tf.lite.TFLiteConverter.from_keras_model(model_of(group, cases))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.representative_dataset = lambda: _samples(data)
    return bytes(converter.convert())


def _litert(group: str, cases: Sequence[Case]) -> bytes:
    from litert_quantizer import quantizer, recipe

    from tfq_converters.reading.reader import read_model

    content = read_model(model_of(group, cases)).content
    signature = flatbuffer.read(content).signatures[0].key
    found = quantizer.Quantizer(bytes(content), recipe.static_wi8_ai8())
    result = found.calibrate({signature: list(_samples(data_of(cases, CALIBRATION, SEED)))})
    return bytes(found.quantize(result).quantized_model)


def _samples(data: Arrays) -> Iterator[Arrays]:
    for n in range(CALIBRATION):
        yield {name: values[n : n + 1] for name, values in data.items()}


TOOLS = {"stock": stock_file, "litert": _litert}


def _child(tool: str, group: str, names: Sequence[str]) -> None:
    cases = [case for case in GROUPS[group] if case.name in names]
    content = TOOLS[tool](group, cases)
    if os.environ.get("KEEP"):
        Path(os.environ["KEEP"], f"{tool}_{group}_{len(names)}_{names[0]}.tflite").write_bytes(content)
    graph = flatbuffer.read(content)
    print()
    print(json.dumps({case.name: len(float_ops(graph, case.name)) for case in cases}))


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["--child"]:
        _child(arguments[1], arguments[2], arguments[3:])
        return
    print("case: literal, TFLiteConverter, litert-quantizer")
    for group in arguments or GROUPS:
        stock, litert = stock_counts(group, GROUPS[group]), litert_counts(group, GROUPS[group])
        for case in GROUPS[group]:
            changed = "" if case.stock == stock[case.name] else "  <- changed"
            print(f"{case.name}: {case.stock}, {stock[case.name]}, {litert[case.name]}{changed}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
