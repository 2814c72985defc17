"""What layers and files are compared by, against numpy; estimates by gradients against what runs show."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import images, wide_cnn
from tfq_converters import flatbuffer
from tfq_converters.graph import Graph
from tfq_converters.quantized import QuantizedGraph
from tfq_converters.realize import realize
from tfq_converters.runtime import Runner, file_runs
from tfq_fine.calibration import CalibrationData, Representative
from tfq_fine.cli import arguments
from tfq_fine.mixed_precision.conditions import Conditions
from tfq_fine.mixed_precision.exploration import Explored, Measuring, explored
from tfq_fine.mixed_precision.measures import MEASURES, decibels_of_loss
from tfq_fine.mixed_precision.sensitivity import PartialRuns
from tfq_fine.mixed_precision.units import candidates_of
from tfq_fine.progress import Stages

GRAPH, DATA = wide_cnn(), images(43)
CONTENT = flatbuffer.write(GRAPH)
LABELS = np.arange(len(DATA)) % GRAPH.main.tensors[GRAPH.main.outputs[0]].shape[-1]
NAMES = ("float", "weight_only_int8", "weight_only_int4", "weight_only_int2")


def table(measuring: Measuring, graph: Graph = GRAPH) -> tuple[Explored, float]:
    """Return the losses of layers, and the figure of the file of the last candidate."""
    with file_runs() as files:
        material = Representative(CalibrationData(DATA))
        conditions = Conditions(quality="fast")
        options: dict[str, Any] = {"measuring": measuring}
        made = explored(graph, material, candidates_of(NAMES), conditions, files, Stages(), len(CONTENT), **options)
        return made, made.plans.figure(made.plans.uniform(made.candidates[-1]))


def label_of(sample: Any) -> Any:
    return LABELS[[n for n, row in enumerate(DATA) if np.array_equal(row, sample[0][0])]]


def expected_loss(name: str, content: bytes, samples: Any) -> float:
    """The loss by its definition, over the probabilities that the files give."""
    each = []
    for sample in samples:
        p, q = (Runner(file).run(sample)[0].astype(np.float64)[0] for file in (CONTENT, content))
        true = label_of(sample)[0]
        each.append(np.sum(p * np.log(p / q)) if name == "kl" else np.log(p[true]) - np.log(q[true]))
    return float(np.mean(each))


@pytest.mark.parametrize("name", ["kl", "loss"])
def test_losses_are_those_of_the_files_outputs(name: str):
    made, figure = table(Measuring(name, label_of if MEASURES[name].reads_labels else None))
    samples, several = made.plans.trial.samples, 0
    for unit in made.units:
        for c in made.candidates[1:]:
            encodings = made.plans.fitted[c].encodings
            own = {key: encodings[key] for key in unit.keys if key in encodings}
            content = flatbuffer.write(realize(QuantizedGraph(GRAPH, own)).graph)
            expected = expected_loss(name, content, samples)
            assert made.loss[unit, c] == pytest.approx(max(expected, 0), rel=0.01, abs=2e-7)  # float32 probabilities
            several += expected > 1e-5
    assert several >= 3
    whole = made.plans.uniform(made.candidates[-1])
    content = flatbuffer.write(realize(made.plans.numbers(whole).quantized).graph)
    assert figure == pytest.approx(decibels_of_loss(expected_loss(name, content, samples)), abs=0.05)


def without_softmax() -> Graph:
    main = GRAPH.main
    *ops, softmax = main.ops
    assert softmax.code == "SOFTMAX"
    return replace(GRAPH, subgraphs=(replace(main, ops=tuple(ops), outputs=softmax.inputs),), signatures=())


def test_estimates_by_gradients_are_near_what_runs_show():
    """Small errors move outputs as the gradient says. 10 samples with 4 signs each: a tenth of noise, and more."""
    measured, estimated = (table(Measuring(name))[0] for name in ("sqnr", "second_order"))
    pairs = [(measured.loss[u, c], estimated.loss[u, c]) for u in measured.units for c in measured.candidates[1:]]
    for run, estimate in pairs:
        assert 0.5 < estimate / run < 2
    ranks = [np.argsort(np.argsort(values)) for values in zip(*pairs, strict=True)]
    assert np.corrcoef(ranks[0], ranks[1])[0, 1] > 0.9


def test_the_last_layers_estimate_is_that_of_its_error_itself():
    """The outputs are the layer's own, so that E (v . e)^2 is |e|^2 but for the four draws of signs."""
    made, _ = table(Measuring("second_order"), without_softmax())
    unit, c = made.units[-1], made.candidates[-1]
    runs = PartialRuns(made.plans.graph, made.plans.trial.samples, 1)
    runs.go_to(unit.keys[0][1])
    pairs = [
        (np.concatenate([*before.values()]), np.concatenate([*after.values()]))
        for before, after in runs.own_outputs(made.plans.fitted[c].encodings)
    ]
    shares = [np.square(x - y).sum() / np.square(x).sum() for x, y in pairs]
    assert made.loss[unit, c] == pytest.approx(np.mean(shares), rel=0.5)


def test_the_command_knows_the_measures():
    assert tuple(MEASURES) == arguments.MEASURES


@pytest.mark.parametrize("name", [*MEASURES])
def test_each_measure_chooses_a_file_within_the_size(name: str):
    labels = LABELS if MEASURES[name].reads_labels else None
    options: dict[str, Any] = {"quality": "fast", "candidates": NAMES}
    result = tfq.search(CONTENT, DATA, max_bytes=0.4, measure=name, labels=labels, **options)
    assert 0.25 * len(CONTENT) < len(result.content) <= 0.4 * len(CONTENT) and result.point.sqnr_db > 5


def test_what_a_measure_cannot_compare_is_an_error():
    values = flatbuffer.write(images_to_images())
    with pytest.raises(tfq.TfqError, match=r"measure='kl' compares probabilities, and no output of the model"):
        tfq.search(values, DATA, max_bytes=0.5, measure="kl", quality="fast")
    with pytest.raises(tfq.TfqError, match=r"a label of shape \(1, 5\) does not fit an output of shape"):
        tfq.search(CONTENT, DATA, max_bytes=0.5, measure="loss", labels=np.zeros((43, 5)), quality="fast")


def images_to_images() -> Graph:
    """The first convolution alone."""
    main = GRAPH.main
    return replace(GRAPH, subgraphs=(replace(main, ops=main.ops[:1], outputs=main.ops[0].outputs),), signatures=())
