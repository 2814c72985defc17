"""The arguments of each command. Light on purpose: `--help` loads this and nothing heavier."""

import argparse
import shlex
from collections.abc import Callable, Sequence

from absl import flags, logging

import tfq_fine as tfq
from tfq_converters.kernels import DEFAULT_RUNTIMES, RUNTIMES, families
from tfq_fine.cli.parser import Parser, Place, image_size, option, positive_integer, seconds

PROGRAM = "tfq-fine"
OBSERVERS = ("min_max", "moving_average", "percentile", "mean_std", "mse", "entropy", "auto")
STATISTICS = ("channel_absmax", "channel_mean", "second_moment")
TRANSFORMS = {  # name -> whether it is tried by default
    "fold_batch_norm": True,
    "shift": False,
    "cross_layer": True,
    "log_equalization": False,
    "smooth_quant": True,
    "explicit_mul": False,
    "awq": False,
    "rotate": False,
    "bounded_masks": True,
    "bias_correction": True,
    "islands": True,
}
MEASURES = ("sqnr", "kl", "loss", "second_order")
QUALITIES = ("fast", "balanced", "best")
TYPES = ("float32", "int8", "uint8", "int16")
MODEL = "Keras model (.keras, .h5), SavedModel folder or float .tflite"
DATA = (
    ".npz with one array per input, samples along axis 0 (and labels, as 'labels' or 'y'), .npy, .csv of numbers, or a "
    "folder of images (sub-folders are their labels); of a model of several signatures, repeat the option as KEY=FILE"
)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments of one call (first the program's name). absl's own flags work too: `--verbosity=0`.

    Raises:
        SystemExit: bad usage (2), or help was asked for (0).
    """
    parser = Parser(
        prog=PROGRAM,
        description="Quantize Keras models for TFLite, and measure the loss of accuracy.",
        epilog="`tfq-fine COMMAND --help` shows the options of a command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {tfq.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add, said, examples in COMMANDS:
        lines = "".join(f"\n  {PROGRAM} {example}" for example in examples)
        command = commands.add_parser(
            add.__name__.removeprefix("_").replace("_", "-"),
            help=said,
            description=f"{said[0].upper()}{said[1:]}.",
            epilog=f"examples:{lines}",
            allow_abbrev=False,
        )
        add(command)
    arguments = parser.parse_args(list(argv[1:]))
    arguments.command_line = shlex.join([PROGRAM, *argv[1:]])
    if flags.FLAGS["verbosity"].using_default_value:
        logging.set_verbosity(logging.WARNING)  # absl would raise it to INFO
    return arguments


def _quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    said = "name of a recipe (see `recipes`), or a .json file with one; with --target, that of the device by default"
    option(parser, "recipe", "r", help=said)
    option(parser, "output", "o", required=True, metavar="FILE", help="the .tflite to write; - is stdout")
    _data(parser, "representative data, for recipes that need it", is_required=False, several=True)
    numbers = parser.add_argument_group("numbers")
    _observing(numbers)
    said = "file that `calibrate` wrote for this model, instead of --data"
    option(numbers, "statistics", metavar="FILE", help=said)
    said = "effort for weights below 8 bits: fast rounds them without data; balanced and best fit them to the data"
    option(numbers, "quality", choices=QUALITIES, default="balanced", help=said)
    said = (
        "folder where fitted weights are kept by content, so that a later run starts where this one ends (up to 1 GiB)"
    )
    option(numbers, "cache-dir", metavar="FOLDER", help=said)
    target = parser.add_argument_group("where the file runs")
    said = (
        "device that the file is for (see `devices`): sets recipe, runtimes, types and --prefer if they are not given"
    )
    option(target, "target", metavar="DEVICE", help=said)
    said = "type of the file's inputs"
    option(target, "input-type", choices=TYPES, default="float32", help=said)
    option(target, "output-type", choices=TYPES, default="float32", help="type of the file's outputs")
    said = "speed: an operator stays float where its quantized kernel is slower; size: it is quantized anyway"
    option(target, "prefer", choices=("speed", "size"), default="speed", help=said)
    said = (
        "runtime that must compute the file right; repeat for several (default: "
        f"{' and '.join(DEFAULT_RUNTIMES)}). "
        + "; ".join(f"{name}: {runtime.help}" for name, runtime in RUNTIMES.items())
    )
    option(target, "runtime", choices=tuple(RUNTIMES), action="append", help=said)
    said = (
        "if a runtime has no kernel for what the recipe requests: an error, or the nearest that has one "
        "(default: what the recipe says; presets below 8 bits fall back)"
    )
    option(target, "on-unsupported", choices=("error", "fallback"), help=said)
    said = "kernel table of another machine or release (see `kernels`)"
    option(target, "kernels", metavar="FILE", help=said)
    said = "changes of the float graph; each is kept only if it lowers the error (see the report)"
    transforms = parser.add_argument_group("transforms", said)
    for name, default in TRANSFORMS.items():
        tried = default or None  # None: where the recipe names it
        said = "try this transform" if default else "try this transform, which is off by default"
        option(transforms, name.replace("_", "-"), action=argparse.BooleanOptionalAction, default=tried, help=said)
    _reports(parser)
    _running(parser)


def _search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    option(parser, "output", "o", required=True, metavar="FILE", help="the .tflite to write; - is stdout")
    budget = parser.add_argument_group("budget (one of them)")
    said = "largest file, in bytes or as a share of the float file, such as 20%%: the least error within it"
    option(budget, "max-bytes", metavar="B", help=said)
    said = "how much worse the metric may get, such as 0.01 or 1%%: the smallest file; half of the samples decide"
    option(budget, "max-drop", metavar="D", help=said)
    said = "longest time of a run here, as a multiple of the float model's, such as 0.5: the least error within it"
    option(budget, "max-latency", type=float, metavar="R", help=said)
    said = "top1, top5, accuracy, auc, mae or mse against the labels in the data, for --max-drop"
    option(budget, "metric", help=said)
    _data(parser, "representative data", is_required=True, several=False)
    layers = parser.add_argument_group("layers")
    said = "what a layer may get: a recipe (see `recipes`), or float; repeat for several (default: weight-only ones)"
    option(layers, "candidate", action="append", help=said)
    said = "what layers are compared by: sqnr and kl are errors of the outputs, loss reads the labels in the data"
    option(layers, "measure", choices=MEASURES, default="sqnr", help=said)
    said = "also fit the weights of the chosen layers anew, and keep the better file; without, it is there at once"
    option(layers, "refit", action=argparse.BooleanOptionalAction, default=True, help=said)
    _conditions(layers, quality="balanced")
    results = parser.add_argument_group("results")
    said = "write what each layer got as a recipe for `quantize`; - is stdout"
    option(results, "recipe", "r", metavar="FILE", help=said)
    said = "write what each layer got as an HTML page (needs tfq_fine[report])"
    option(results, "html", metavar="FILE", help=said)
    said = "write sizes, errors and layers as JSON; - is stdout"
    option(results, "report", metavar="FILE", help=said)
    _running(parser)


def _analyze(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    _data(parser, "representative data", is_required=True, several=False)
    said = "write an HTML page with pictures (needs tfq_fine[report])"
    option(parser, "output", "o", metavar="FILE", help=said)
    said = "write the figures of all layers as JSON; - is stdout"
    option(parser, "report", metavar="FILE", help=said)
    _conditions(parser, quality="fast")
    _running(parser)


def _calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    option(parser, "output", "o", required=True, metavar="FILE", help="the .npz to write; - is stdout")
    _data(parser, "representative data", is_required=True, several=True)
    said = "recipe whose observers and algorithms decide what is saved (default: full_int8)"
    option(parser, "recipe", "r", default="full_int8", help=said)
    said = "save this statistic too; repeat for several"
    option(parser, "also", choices=STATISTICS, action="append", help=said)
    said = "statistics of an earlier run, to which the new samples are added"
    option(parser, "resume", metavar="FILE", help=said)
    option(parser, "batch-size", type=positive_integer, default=1, metavar="N", help="samples per run")
    option(parser, "verbose", action="store_true", help="print all tensors, not the ten of the widest range")
    _observing(parser)
    _trusting(parser)


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("tflite", metavar="TFLITE", help="the quantized file")
    _data(parser, "test data", is_required=True, several=True)
    option(parser, "samples", type=positive_integer, metavar="N", help="use the first N samples")
    task = parser.add_argument_group("task")
    said = (
        "top1, top5, accuracy, auc, perplexity, mae or mse against the labels; KEY=NAME for one of several signatures"
    )
    option(task, "metric", action="append", help=said)
    said = "exit with 1 if the metric gets worse by more than D, such as 0.01 or 1%%, in any signature"
    option(task, "max-drop", metavar="D", help=said)
    how = parser.add_argument_group("how the files run")
    said = "samples per run, if the model does not fix it"
    option(how, "batch-size", type=positive_integer, default=1, metavar="N", help=said)
    said = "kernels of the runtime"
    option(how, "kernels", choices=("default", "optimized", "reference"), default="default", help=said)
    option(how, "threads", type=positive_integer, default=1, metavar="N", help="threads of each interpreter")
    yes_or_no = argparse.BooleanOptionalAction
    option(how, "latency", action=yes_or_no, default=True, help="measure the run time of both models")
    option(how, "layers", action=yes_or_no, default=True, help="measure the error per layer")
    _reports(parser)
    _running(parser)


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="a report in JSON, as --report writes it")
    parser.add_argument("second", metavar="B", help="another report of the same command")
    option(parser, "html", metavar="FILE", help="write an HTML page (needs tfq_fine[report])")


def _inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tflite", metavar="TFLITE", help="the .tflite file")
    option(parser, "tensors", action="store_true", help="list every tensor")


def _devices(parser: argparse.ArgumentParser) -> None:
    option(parser, "verbose", action="store_true", help="say where the facts come from, too")


def _export_micro(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tflite", metavar="TFLITE", help="the .tflite file")
    option(parser, "output", "o", required=True, metavar="FOLDER", help="where the C++ sources go")


def _recipes(parser: argparse.ArgumentParser) -> None:
    """Add nothing: this command has no options."""


def _kernels(parser: argparse.ArgumentParser) -> None:
    said = "measure the runtimes that are installed here (takes minutes)"
    option(parser, "probe", action="store_true", help=said)
    said = "write the measured table, for `quantize --kernels FILE`; - is stdout"
    option(parser, "output", "o", metavar="FILE", help=said)
    option(parser, "table", metavar="FILE", help="show this table instead of the built-in one")
    choices = tuple(families())
    option(parser, "runtime", choices=choices, action="append", help="show only this runtime; repeat for several")


def _data(parser: argparse.ArgumentParser, what: str, is_required: bool, several: bool) -> None:
    """Add the options of data: what it is, and how images of a folder are read."""
    group = parser.add_argument_group("data")
    said = f"{what}: {DATA if several else DATA.partition(';')[0]}"
    option(group, "data", "d", action="append", required=is_required, help=said)
    said = "size that images of a folder are resized to, such as 224 or 224x192"
    option(group, "image-size", type=image_size, metavar="HxW", help=said)
    option(group, "color", choices=("rgb", "grayscale"), help="channels of images of a folder (default: rgb)")
    said = "what their values of 0 to 255 are multiplied by, such as 0.00392157"
    option(group, "scale", type=float, metavar="S", help=said)
    option(group, "offset", type=float, metavar="O", help="what is added to them after that, such as -1")
    said = "module of keras.applications whose preprocess_input they go through instead, such as mobilenet_v2"
    option(group, "preprocess", metavar="NAME", help=said)


def _conditions(place: Place, quality: str) -> None:
    """Add what `search` and `analyze` fit and measure layers by (`cli.conditions`)."""
    said = "runtime that must compute the file right; repeat for several"
    option(place, "runtime", choices=tuple(RUNTIMES), action="append", help=said)
    option(place, "quality", choices=QUALITIES, default=quality, help="effort for the weights")
    option(place, "samples", type=positive_integer, metavar="N", help="read at most N samples")
    option(place, "processes", type=positive_integer, metavar="N", help="fit and measure layers on N processes")
    said = "folder where fitted weights and figures of layers are kept: an interrupted run, or another, starts there"
    option(place, "cache-dir", metavar="FOLDER", help=said)


def _observing(place: Place) -> None:
    option(place, "samples", type=positive_integer, metavar="N", help="read at most N samples")
    said = f"how to choose the ranges of activations, instead of the recipe's observers: {', '.join(OBSERVERS)}"
    option(place, "observer", metavar="NAME[:OPTION=NUMBER,...]", help=said)
    said = "if a sample has NaN or infinity: stop with an error, or skip the sample and count it"
    option(place, "on-invalid", choices=("error", "skip"), default="error", help=said)


def _reports(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("reports")
    option(group, "report", metavar="FILE", help="write the report as JSON; - is stdout")
    said = "write the report as an HTML page with pictures (needs tfq_fine[report])"
    option(group, "html", metavar="FILE", help=said)
    option(group, "csv", metavar="FILE", help="write the error of every layer as CSV")
    said = "write the error of every layer for Model Explorer (its --node_data_paths), which shows it over the graph"
    option(group, "node-data", metavar="FILE", help=said)


def _running(parser: argparse.ArgumentParser) -> None:
    said = "seconds that one run of a file may take (default: 60 plus 1000 times the float model's time)"
    option(parser, "timeout", type=seconds, metavar="S", help=said)
    _trusting(parser)


def _trusting(parser: argparse.ArgumentParser) -> None:
    said = "allow a Keras file or SavedModel to do more than compute; use only for files that you trust"
    option(parser, "unsafe", action="store_true", help=said)


# what adds the options of a command, named like it; what the command does; examples
COMMANDS: tuple[tuple[Callable[[argparse.ArgumentParser], None], str, tuple[str, ...]], ...] = (
    (
        _quantize,
        "write a quantized .tflite",
        (
            "quantize model.keras -r dynamic_int8 -o model.tflite",
            "quantize model.keras -r full_int8 -d samples.npz -o model.tflite --html report.html",
            "quantize model.keras -r full_int8 -d photos --image-size 224 --preprocess mobilenet_v2 -o model.tflite",
        ),
    ),
    (
        _search,
        "find how to quantize each layer within a budget, and write that .tflite",
        (
            "search model.keras -d samples.npz --max-bytes 20% -o model.tflite -r recipe.json",
            "search model.keras -d labelled.npz --metric top1 --max-drop 1% -o model.tflite",
        ),
    ),
    (
        _analyze,
        "show which layers lose most at which bits and granularity, and what to do",
        ("analyze model.keras -d samples.npz -o analysis.html",),
    ),
    (
        _calibrate,
        "run a model on data and save statistics of its tensors",
        ("calibrate model.keras -d samples.npz -o statistics.npz",),
    ),
    (
        _verify,
        "compare a quantized .tflite with its float model",
        ("verify model.keras model.tflite -d labelled.npz --metric top1 --max-drop 1% --html report.html",),
    ),
    (_compare, "show two reports side by side", ("compare before.json after.json --html both.html",)),
    (_inspect, "show the operators and tensors of a .tflite", ("inspect model.tflite --tensors",)),
    (_devices, "list the devices that `quantize --target` takes", ("devices --verbose",)),
    (
        _export_micro,
        "write the C++ sources that run a .tflite on TFLite Micro",
        ("export-micro model.tflite -o firmware",),
    ),
    (_recipes, "list the recipes that have a name", ("recipes",)),
    (
        _kernels,
        "show which quantized kernels each runtime has",
        ("kernels --runtime tflite-micro", "kernels --probe -o kernels.json"),
    ),
)
