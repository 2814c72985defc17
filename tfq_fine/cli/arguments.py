"""The arguments of each command. Light on purpose: `--help` loads this and nothing heavier."""

import argparse
import shlex
from collections.abc import Sequence
from typing import Any

from absl import flags, logging
from absl.flags import argparse_flags

import tfq_fine as tfq
from tfq_converters.kernels import DEFAULT_RUNTIMES, RUNTIMES, families

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
TYPES = ("float32", "int8", "uint8", "int16")
MODEL = "Keras model (.keras, .h5), SavedModel folder or float .tflite"
DATA = (
    ".npz with one array per input, samples along axis 0 (and labels, as 'labels' or 'y'), or .npy; of a model of "
    "several signatures, repeat the option as KEY=FILE"
)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments of one call (first the program's name). absl's own flags work too: `--verbosity=0`.

    Raises:
        SystemExit: bad usage (2), or help was asked for (0).
    """
    parser = argparse_flags.ArgumentParser(  # type: ignore[no-untyped-call]
        prog=PROGRAM, description="Quantize Keras models for TFLite, and measure the loss of accuracy."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {tfq.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _quantize(commands.add_parser("quantize", help="write a quantized .tflite", allow_abbrev=False))
    said = "find how to quantize each layer within a budget, and write that .tflite"
    _search(commands.add_parser("search", help=said, allow_abbrev=False))
    said = "show which layers lose most at which bits and granularity, and what to do"
    _analyze(commands.add_parser("analyze", help=said, allow_abbrev=False))
    _calibrate(
        commands.add_parser(
            "calibrate", help="run a model on data and save statistics of its tensors", allow_abbrev=False
        )
    )
    _verify(commands.add_parser("verify", help="compare a quantized .tflite with its float model", allow_abbrev=False))
    _compare(commands.add_parser("compare", help="show two reports side by side", allow_abbrev=False))
    _inspect(commands.add_parser("inspect", help="show the operators and tensors of a .tflite", allow_abbrev=False))
    commands.add_parser("recipes", help="list the recipes that have a name", allow_abbrev=False)
    _kernels(commands.add_parser("kernels", help="show which quantized kernels each runtime has", allow_abbrev=False))
    arguments = parser.parse_args(list(argv[1:]))
    arguments.command_line = shlex.join([PROGRAM, *argv[1:]])
    if flags.FLAGS["verbosity"].using_default_value:
        logging.set_verbosity(logging.WARNING)  # absl would raise it to INFO
    return arguments


def _quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    _option(parser, "recipe", required=True, help="name of a recipe (see `recipes`), or a .json file with one")
    _option(parser, "data", action="append", help=f"representative data, for recipes that need it: {DATA}")
    _option(parser, "output", required=True, metavar="FILE", help="the .tflite to write; - is stdout")
    _option(parser, "input-type", choices=TYPES, default="float32", help="type of the file's inputs")
    _option(parser, "output-type", choices=TYPES, default="float32", help="type of the file's outputs")
    _option(
        parser,
        "prefer",
        choices=("speed", "size"),
        default="speed",
        help="speed: an operator stays float where its quantized kernel is slower; size: it is quantized anyway",
    )
    _option(
        parser,
        "runtime",
        choices=tuple(RUNTIMES),
        action="append",
        help="runtime that must compute the file right; repeat for several (default: "
        f"{' and '.join(DEFAULT_RUNTIMES)}). "
        + "; ".join(f"{name}: {runtime.help}" for name, runtime in RUNTIMES.items()),
    )
    _option(
        parser,
        "on-unsupported",
        choices=("error", "fallback"),
        help="if a runtime has no kernel for what the recipe requests: an error, or the nearest that has one "
        "(default: what the recipe says; presets below 8 bits fall back)",
    )
    _option(parser, "kernels", metavar="FILE", help="kernel table of another machine or release (see `kernels`)")
    _option(
        parser,
        "quality",
        choices=("fast", "balanced", "best"),
        default="balanced",
        help="effort for weights below 8 bits: fast rounds them without data; balanced and best fit them to the data",
    )
    for name, default in TRANSFORMS.items():
        words = name.replace("_", "-")
        said = "try this transform, and keep it only if it lowers the error (see the report)"
        tried = default or None  # None: where the recipe names it
        _option(parser, words, action=argparse.BooleanOptionalAction, default=tried, help=said)
    _option(parser, "statistics", metavar="FILE", help="file that `calibrate` wrote for this model, instead of --data")
    said = (
        "folder where fitted weights are kept by content, so that a later run starts where this one ends (up to 1 GiB)"
    )
    _option(parser, "cache-dir", metavar="FOLDER", help=said)
    _observing(parser)
    _common(parser)


def _search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    _option(parser, "data", required=True, help=f"representative data: {DATA.partition(';')[0]}")
    _option(parser, "output", required=True, metavar="FILE", help="the .tflite to write; - is stdout")
    said = "largest file, in bytes or as a share of the float file, such as 20%%: the least error within it"
    _option(parser, "max-bytes", metavar="B", help=said)
    said = "how much worse the metric may get, such as 0.01 or 1%%: the smallest file; half of the samples decide"
    _option(parser, "max-drop", metavar="D", help=said)
    said = "longest time of a run here, as a multiple of the float model's, such as 0.5: the least error within it"
    _option(parser, "max-latency", type=float, metavar="R", help=said)
    _option(
        parser, "metric", help="top1, top5, accuracy, auc, mae or mse against the labels in the data, for --max-drop"
    )
    said = "what a layer may get: a recipe (see `recipes`), or float; repeat for several (default: weight-only ones)"
    _option(parser, "candidate", action="append", help=said)
    said = "what layers are compared by: sqnr and kl are errors of the outputs, loss reads the labels in the data"
    _option(parser, "measure", choices=MEASURES, default="sqnr", help=said)
    said = "also fit the weights of the chosen layers anew, and keep the better file; without, it is there at once"
    _option(parser, "refit", action=argparse.BooleanOptionalAction, default=True, help=said)
    _option(parser, "recipe", metavar="FILE", help="write what each layer got as a recipe for `quantize`; - is stdout")
    _option(parser, "html", metavar="FILE", help="write what each layer got as an HTML page (needs tfq_fine[report])")
    _option(parser, "report", metavar="FILE", help="write sizes, errors and layers as JSON; - is stdout")
    _conditions(parser, quality="balanced")


def _analyze(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    _option(parser, "data", required=True, help=f"representative data: {DATA.partition(';')[0]}")
    _option(parser, "output", metavar="FILE", help="write an HTML page with pictures (needs tfq_fine[report])")
    _option(parser, "report", metavar="FILE", help="write the figures of all layers as JSON; - is stdout")
    _conditions(parser, quality="fast")


def _conditions(parser: argparse.ArgumentParser, quality: str) -> None:
    """Add what `search` and `analyze` fit and measure layers by (`cli.conditions`)."""
    said = "runtime that must compute the file right; repeat for several"
    _option(parser, "runtime", choices=tuple(RUNTIMES), action="append", help=said)
    _option(parser, "quality", choices=("fast", "balanced", "best"), default=quality, help="effort for the weights")
    _option(parser, "samples", type=positive_integer, metavar="N", help="read at most N samples")
    _option(parser, "processes", type=positive_integer, metavar="N", help="fit and measure layers on N processes")
    said = "folder where fitted weights and figures of layers are kept: an interrupted run, or another, starts there"
    _option(parser, "cache-dir", metavar="FOLDER", help=said)
    _option(parser, "timeout", type=seconds, metavar="S", help="seconds that one run of a file may take")
    said = "allow a Keras file to run the code in it; use only for files that you trust"
    _option(parser, "unsafe", action="store_true", help=said)


def _calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    _option(parser, "data", action="append", required=True, help=f"representative data: {DATA}")
    _option(parser, "output", required=True, metavar="FILE", help="the .npz to write; - is stdout")
    _option(
        parser,
        "recipe",
        default="full_int8",
        help="recipe whose observers and algorithms decide what is saved (default: full_int8)",
    )
    _option(parser, "also", choices=STATISTICS, action="append", help="save this statistic too; repeat for several")
    _option(parser, "resume", metavar="FILE", help="statistics of an earlier run, to which the new samples are added")
    _option(parser, "batch-size", type=positive_integer, default=1, metavar="N", help="samples per run")
    _observing(parser)
    _option(
        parser,
        "unsafe",
        action="store_true",
        help="allow a Keras file to run the code in it; use only for files that you trust",
    )


def _observing(parser: argparse.ArgumentParser) -> None:
    _option(parser, "samples", type=positive_integer, metavar="N", help="read at most N samples")
    _option(
        parser,
        "observer",
        metavar="NAME[:OPTION=NUMBER,...]",
        help=f"how to choose the ranges of activations, instead of the recipe's observers: {', '.join(OBSERVERS)}",
    )
    _option(
        parser,
        "on-invalid",
        choices=("error", "skip"),
        default="error",
        help="if a sample has NaN or infinity: stop with an error, or skip the sample and count it",
    )


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("tflite", metavar="TFLITE", help="the quantized file")
    _option(parser, "data", action="append", required=True, help=f"test data: {DATA}")
    said = (
        "top1, top5, accuracy, auc, perplexity, mae or mse against the labels; KEY=NAME for one of several signatures"
    )
    _option(parser, "metric", action="append", help=said)
    said = "exit with 1 if the metric gets worse by more than D, such as 0.01 or 1%%, in any signature"
    _option(parser, "max-drop", metavar="D", help=said)
    _option(parser, "samples", type=positive_integer, metavar="N", help="use the first N samples")
    _option(
        parser,
        "batch-size",
        type=positive_integer,
        default=1,
        metavar="N",
        help="samples per run, if the model does not fix it",
    )
    _option(
        parser,
        "kernels",
        choices=("default", "optimized", "reference"),
        default="default",
        help="kernels of the runtime",
    )
    _option(parser, "threads", type=positive_integer, default=1, metavar="N", help="threads of each interpreter")
    _option(
        parser,
        "latency",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure the run time of both models",
    )
    _option(parser, "layers", action=argparse.BooleanOptionalAction, default=True, help="measure the error per layer")
    _common(parser)


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="a report in JSON, as --report writes it")
    parser.add_argument("second", metavar="B", help="another report of the same command")
    _option(parser, "html", metavar="FILE", help="write an HTML page (needs tfq_fine[report])")


def _inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tflite", metavar="TFLITE", help="the .tflite file")
    _option(parser, "tensors", action="store_true", help="list every tensor")


def _kernels(parser: argparse.ArgumentParser) -> None:
    _option(parser, "probe", action="store_true", help="measure the runtimes that are installed here (takes minutes)")
    _option(
        parser, "output", metavar="FILE", help="write the measured table, for `quantize --kernels FILE`; - is stdout"
    )
    _option(parser, "table", metavar="FILE", help="show this table instead of the built-in one")
    choices = tuple(families())
    _option(parser, "runtime", choices=choices, action="append", help="show only this runtime; repeat for several")


def _common(parser: argparse.ArgumentParser) -> None:
    _option(parser, "report", metavar="FILE", help="write the report as JSON; - is stdout")
    _option(
        parser,
        "timeout",
        type=seconds,
        metavar="S",
        help="seconds that one run of the file may take (default: 60 plus 1000 times the float model's time)",
    )
    _option(
        parser, "html", metavar="FILE", help="write the report as an HTML page with pictures (needs tfq_fine[report])"
    )
    _option(parser, "csv", metavar="FILE", help="write the error of every layer as CSV")
    said = "write the error of every layer for Model Explorer (its --node_data_paths), which shows it over the graph"
    _option(parser, "node-data", metavar="FILE", help=said)
    _option(
        parser,
        "unsafe",
        action="store_true",
        help="allow a Keras file to run the code in it; use only for files that you trust",
    )


def _option(parser: argparse.ArgumentParser, name: str, **details: Any) -> None:
    """Add an option that may be written with hyphens or, as absl writes them, with underscores."""
    dest = name.replace("-", "_")
    parser.add_argument(f"--{name}", dest=dest, **details)
    if dest != name:
        hidden = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
        parser.add_argument(f"--{dest}", dest=dest, **(details | hidden))


def positive_integer(text: str) -> int:
    """Return an argument that counts something."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {text}")
    return value


def seconds(text: str) -> float:
    """Return an argument that is a time."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected more than 0 seconds, found {text}")
    return value
