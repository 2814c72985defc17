"""The search on a small network: budgets hold for the emitted file, and what layers cost is what files show."""

import itertools
import json
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import images, wide_cnn
from tfq_converters import flatbuffer
from tfq_converters.quantized import QuantizedGraph
from tfq_converters.realize import realize
from tfq_converters.runtime import Runner, file_runs
from tfq_fine.calibration import CalibrationData, Representative
from tfq_fine.cli.program import main
from tfq_fine.mixed_precision import finished_files
from tfq_fine.mixed_precision.conditions import Conditions
from tfq_fine.mixed_precision.exploration import Explored, explored
from tfq_fine.mixed_precision.finished_files import LEAD_DB, FinishedFiles
from tfq_fine.mixed_precision.labelled import Drop
from tfq_fine.mixed_precision.result import Point
from tfq_fine.mixed_precision.sensitivity import PartialRuns
from tfq_fine.mixed_precision.units import DEFAULT, candidates_of, units_of
from tfq_fine.mixed_precision.within_bytes import best_start, best_within
from tfq_fine.progress import Stages
from tfq_fine.weights import solving

GRAPH = wide_cnn()
CONTENT, DATA = flatbuffer.write(GRAPH), images(43)


@pytest.fixture(scope="module")
def known() -> Any:
    with ExitStack() as stack:
        files = stack.enter_context(file_runs())
        material = Representative(CalibrationData(DATA))
        candidates = candidates_of((*DEFAULT, "full_int8", "full_w4a8"))
        yield explored(GRAPH, material, candidates, Conditions(), files, Stages(), len(CONTENT))


def test_partial_runs_give_what_whole_runs_give(known: Explored):
    """Only what lies behind a layer is run again: the outputs are those of the file in which only it is quantized."""
    samples = known.plans.trial.samples[:3]
    expected = [Runner(CONTENT).run(sample)[0] for sample in samples]
    runs, several = PartialRuns(GRAPH, samples, 1), 0
    for unit in known.units:
        runs.go_to(unit.keys[0][1])
        for fitted in known.plans.fitted.values():
            own = {key: fitted.encodings[key] for key in unit.keys if key in fitted.encodings}
            if not own:
                continue
            runner = Runner(flatbuffer.write(realize(QuantizedGraph(GRAPH, own)).graph))
            for sample, before, share in zip(samples, expected, runs.rest().losses(own), strict=True):
                logs = [np.log(scores.astype(np.float64)) for scores in (before, runner.run(sample)[0])]
                noise = np.square(logs[0] - logs[1]).sum() / np.square(logs[0]).sum()
                assert share == pytest.approx(noise, rel=2e-3, abs=1e-9)  # logs of float32 probabilities
                several += noise > 1e-6
    assert several > 20


def test_fewer_bits_lose_more_and_take_less(known: Explored):
    names = ["float", "weight_only_int8", "weight_only_int4", "weight_only_int2"]
    for table, rises in ((known.loss, True), (known.bytes, False)):
        for unit in known.units[::2]:  # the depthwise layer has nothing to give
            values = [next(table[pair] for pair in table if pair[0] == unit and pair[1].name == n) for n in names]
            assert values == sorted(values, reverse=not rises) and len(set(values)) == len(names)


def test_bytes_of_a_choice_are_those_of_its_file(known: Explored):
    """The sum over layers leaves out what the format shares and aligns."""
    rng = np.random.default_rng(1)
    for _ in range(8):
        choice = {
            unit: known.candidates[rng.integers(7)] for unit in known.units
        }  # no integers: they share conversions
        assert known.predicted_bytes(choice) == pytest.approx(known.plans.size(choice), abs=1200)


def test_the_noise_of_layers_ranks_choices(known: Explored):
    rng = np.random.default_rng(2)
    choices = [{unit: known.candidates[rng.integers(7)] for unit in known.units} for _ in range(20)]
    predicted = [known.predicted_loss(choice) for choice in choices]
    measured = [-known.plans.decibels(choice) for choice in choices]
    ranks = [np.argsort(np.argsort(values)) for values in (predicted, measured)]
    assert np.corrcoef(ranks[0], ranks[1])[0, 1] > 0.9  # Spearman's


def test_no_other_choice_whose_file_fits_loses_less(known: Explored):
    """All 64 choices of four candidates are put together, and their files' sizes decide what fits."""
    four = [c for c in known.candidates if c.name in ("float16", "weight_only_int8", "weight_only_int4", "full_int8")]
    pairs = [pair for pair in known.loss if pair[1] in four]
    few = replace(
        known,
        candidates=tuple(four),
        loss={pair: known.loss[pair] for pair in pairs},
        bytes={pair: known.bytes[pair] for pair in pairs},
    )
    every = [dict(zip(few.units, choice, strict=True)) for choice in itertools.product(four, repeat=len(few.units))]
    sizes = [few.plans.size(choice) for choice in every]
    assert len(every) == 64
    for most in np.linspace(min(sizes), max(sizes), 9).astype(int):
        least = min(few.predicted_loss(choice) for choice, size in zip(every, sizes, strict=True) if size <= most)
        choice = best_within(few, int(most))
        assert few.plans.size(choice) <= most and few.predicted_loss(choice) <= 1.02 * least


@pytest.mark.parametrize("share", ["60%", 0.3])
def test_the_file_is_within_the_budget_and_its_recipe_makes_it_again(share: Any):
    result = tfq.search(CONTENT, DATA, max_bytes=share)
    limit = float(str(share).rstrip("%")) / (100 if str(share).endswith("%") else 1) * len(CONTENT)
    assert 0.8 * limit < len(result.content) <= limit
    assert result.point.bytes == len(result.content)
    recipe = tfq.Recipe.from_json(result.recipe.to_json())
    again = tfq.quantize(CONTENT, recipe, DATA, prefer="size")
    assert [row.weights for row in again.report.rows] == [row.weights for row in result.result.report.rows]
    assert again.content == result.content or not result.point.is_whole
    assert [row.layer.split()[0] for row in result.layers] == ["conv", "depthwise", "dense"]


def sqnr_db(content: bytes, samples: Any) -> float:
    """The mean SQNR of the log-probabilities, in numpy."""
    each = []
    for sample in samples:
        plain, coarse = (np.log(Runner(file).run(sample)[0].astype(np.float64)) for file in (CONTENT, content))
        each.append(10 * np.log10(np.square(plain).sum() / np.square(plain - coarse).sum()))
    return float(np.mean(each))


@pytest.mark.parametrize("share", [0.28, 0.35])
def test_the_better_file_of_a_choice_is_handed_over_with_the_error_that_it_has(known: Explored, share: float):
    """What is put together leads by chance where it leads by less than `LEAD_DB`."""
    result = tfq.search(CONTENT, DATA, max_bytes=share)
    assert result.point.sqnr_db == pytest.approx(sqnr_db(result.content, known.plans.trial.samples), abs=0.01)
    others = [point for point in result.frontier if point.recipe == result.recipe and point is not result.point]
    assert len(others) == 1
    for point in result.frontier:
        is_full = point.drop is None and point.recipe.description == result.recipe.description
        if is_full and point.bytes <= share * len(CONTENT):
            assert point.sqnr_db <= result.point.sqnr_db + LEAD_DB


def test_exact_files_of_large_models_are_not_fitted_anew(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(finished_files, "LONG", 1e6)
    for enough_db, files in ((30, 1), (200, 2)):
        monkeypatch.setattr(finished_files, "EXACT_ENOUGH_DB", enough_db)
        result = tfq.search(CONTENT, DATA, max_bytes=0.35)
        assert sum(point.recipe == result.recipe for point in result.frontier) == files


def test_without_refit_the_file_is_put_together_alone(known: Explored):
    result = tfq.search(CONTENT, DATA, max_bytes=0.28, refit=False)
    assert not any(point.is_whole for point in result.frontier) and not result.point.is_whole
    assert result.point.sqnr_db == pytest.approx(sqnr_db(result.content, known.plans.trial.samples), abs=0.01)


def test_a_file_is_fitted_anew_where_that_is_better():
    point = Point(10, 20.0, None, tfq.RECIPES["float16"], False)
    for whole_db, drops, expected in ((19.6, None, True), (19.4, None, False), (9.0, (0.02, 0.01), True)):
        first, second = (replace(point, sqnr_db=db) for db in (20.0, whole_db))
        if drops is not None:
            first, second = (replace(p, drop=Drop(d, d, d, 1, 1)) for p, d in zip((first, second), drops, strict=True))
        assert FinishedFiles._is_better(second, first) is expected


def test_warnings_of_a_file_that_is_put_together_are_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(FinishedFiles, "_is_better", staticmethod(lambda *_: False))
    monkeypatch.setattr(FinishedFiles, "_is_enough", lambda *_: True)
    result = tfq.search(CONTENT, DATA[:9], max_bytes=0.26, quality="fast")
    assert not result.point.is_whole and result.result.report.warnings
    assert {record.message for record in caplog.records} >= {*result.result.report.warnings}


def test_uniform_files_are_candidates(known: Explored):
    for share in (0.28, 0.35, 0.6):
        most = int(share * len(CONTENT))
        start = known.plans.figure(best_start(known, most))
        uniform = [known.plans.uniform(c) for c in known.candidates]
        fitting = [known.plans.figure(one) for one in uniform if known.plans.size(one) <= most]
        assert fitting and start >= max(fitting)


def test_a_candidate_that_no_layer_can_get_is_an_error():
    with pytest.raises(tfq.TfqError, match=r"candidates: no layer can get 'full_w2a8': .+"):
        tfq.search(CONTENT, DATA, max_bytes=0.5, candidates=("float", "full_w2a8"), runtimes="ethos-u")


def test_the_same_search_gives_the_same_file_and_its_layers_differ():
    first, second = (tfq.search(CONTENT, DATA, max_bytes=0.33) for _ in range(2))
    assert first.content == second.content
    assert len({row.chosen for row in first.layers}) > 1


def test_the_frontier_has_files_from_the_smallest_to_the_most_exact(tmp_path: Any):
    frontier = tfq.search(CONTENT, DATA, max_bytes=0.5, quality="fast").frontier
    sizes, decibels = zip(*((point.bytes, point.sqnr_db) for point in frontier if not point.is_whole), strict=True)
    assert len(sizes) >= 6 and sizes[0] < 0.3 * len(CONTENT) < 0.7 * len(CONTENT) < sizes[-1]
    assert decibels[0] < decibels[len(decibels) // 2] < decibels[-1]
    again = tfq.quantize(CONTENT, frontier.points[0].recipe, DATA, prefer="size", quality="fast")
    assert len(again.content) == pytest.approx(sizes[0], abs=200)
    frontier.save(tmp_path / "f.html")
    assert "Error against size" in (tmp_path / "f.html").read_text() and "put together" in str(frontier)


def test_integers_are_candidates_too():
    result = tfq.search(CONTENT, DATA, max_bytes=0.4, candidates=("full_int8", "full_w4a8", "full_w2a8"))
    modes = {row.mode for row in result.result.report.rows}
    assert "integer" in modes and len(result.content) <= 0.4 * len(CONTENT)


def test_data_that_can_be_read_once_is_enough():
    once = tfq.search(CONTENT, (row[None] for row in DATA), max_bytes=0.4, quality="fast")
    assert once.content == tfq.search(CONTENT, DATA, max_bytes=0.4, quality="fast").content


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    shapes, real = list[tuple[int, ...]](), solving.solution

    def interrupted(spec: Any, problem: Any) -> Any:
        if problem.inputs.values is not None:
            shapes.append(problem.weight.shape)
        if len(shapes) == 5:
            raise KeyboardInterrupt
        return real(spec, problem)

    monkeypatch.setattr(solving, "solution", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tfq.search(CONTENT, DATA, max_bytes=0.4, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    shapes += [()]  # from here on without interrupts
    again = tfq.search(CONTENT, DATA, max_bytes=0.4, cache_dir=tmp_path)
    monkeypatch.undo()
    assert again.content == tfq.search(CONTENT, DATA, max_bytes=0.4).content
    fitted = len(shapes)
    monkeypatch.setattr(solving, "solution", interrupted)
    tfq.search(CONTENT, DATA, max_bytes=0.4, cache_dir=tmp_path)
    assert len(shapes) == fitted  # everything was on disk


def test_a_time_that_every_file_keeps_to_gives_the_most_exact_one():
    result = tfq.search(CONTENT, DATA, max_latency=50)
    assert result.latency is not None and 0 < result.latency < 50 and not result.problem
    assert {row.chosen for row in result.layers} == {"float"} and result.point.sqnr_db == 120
    assert result.predicted_latency == 1.0
    assert f"the sum over layers said 1.00 ({result.latency - 1:+.2f})" in str(result)
    figures = json.loads(result.to_json())
    assert figures["latency"] == result.latency and figures["predicted_bytes"] == result.predicted_bytes
    assert [row["chosen"] for row in figures["layers"]] == ["float"] * 3


def test_a_time_that_no_file_has_is_an_error_that_names_the_fastest():
    with pytest.raises(tfq.TfqError, match=r"no file of these candidates is that fast here; the fastest takes \d"):
        tfq.search(CONTENT, DATA, max_latency=0.001, quality="fast")


def test_a_size_that_no_file_has_is_an_error_that_names_the_smallest():
    with pytest.raises(tfq.TfqError, match=r"no file of these candidates is that small; the smallest has \d+") as told:
        tfq.search(CONTENT, DATA, max_bytes=500)
    smallest = int(str(told.value).split("has ")[1].split()[0])
    assert len(tfq.search(CONTENT, DATA, max_bytes=smallest).content) <= smallest


def test_bad_budgets_are_told_at_once():
    for options, said in (
        ({}, "one budget, max_bytes=..., max_drop=... or max_latency=..., and found none"),
        ({"max_bytes": 0.2, "max_drop": 0.1}, "found 2"),
        ({"max_latency": 0}, "max_latency: expected a multiple"),
        ({"max_bytes": "a lot"}, "max_bytes: expected a number of bytes"),
        ({"max_bytes": -3}, "found -3"),
        ({"max_drop": 0.1}, "pass metric='top1'"),
        ({"max_bytes": 0.2, "metric": "top1"}, "metric is read for max_drop alone"),
        ({"max_bytes": 0.2, "candidates": ("float",)}, "expected at least two"),
        ({"max_bytes": 0.2, "candidates": ("float", "nonsense")}, "unknown recipe 'nonsense'"),
        ({"max_drop": 0.1, "metric": "top1"}, "max_drop needs labels"),
        ({"max_bytes": 0.2, "labels": np.zeros(43)}, "labels are read for max_drop and measure='loss' alone"),
        ({"max_bytes": 0.2, "measure": "nonsense"}, "measure='nonsense': expected one of sqnr, kl, loss, second_order"),
        ({"max_bytes": 0.2, "measure": "loss"}, "measure='loss' needs labels"),
        ({"max_bytes": 0.2, "quality": "good"}, "quality='good': expected one of fast, balanced, best"),
        ({"max_bytes": 0.2, "num_samples": 0}, "num_samples=0: expected at least 1"),
        ({"max_bytes": 0.2, "runtimes": "abacus"}, "expected runtimes among"),
        ({"max_bytes": 0.2, "candidates": ("float", tfq.Recipe("x", None))}, "expected at least two"),
        ({"max_bytes": 0.2, "cache_dir": __file__}, "cannot be a folder"),
        ({"max_drop": 0.1, "metric": "top1", "labels": np.zeros(7), "num_samples": 7}, "at least 40 labelled samples"),
    ):
        data = DATA[:7] if "num_samples" in options else DATA
        with pytest.raises(tfq.TfqError) as told:
            tfq.search(CONTENT, data, **options)  # type: ignore[arg-type]
        assert said in str(told.value)


def labelled(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples, and the classes that the float model tells: it is always right."""
    data, runner = images(count, seed=4), Runner(CONTENT)
    return data, np.array([runner.run([row[None]])[0].argmax() for row in data])


def test_the_smallest_file_that_keeps_to_a_drop():
    data, labels = labelled(160)
    result = tfq.search(CONTENT, data, labels=labels, metric="top1", max_drop="5%")
    drop = result.point.drop
    assert drop is not None and drop.float_metric == 1.0 and not result.problem
    assert drop.value <= 0.05 and drop.low <= drop.value <= drop.high and drop.low < drop.high
    assert [point.bytes for point in result.frontier] == sorted(point.bytes for point in result.frontier)
    smaller = [point for point in result.frontier if point.is_whole and point.bytes < result.point.bytes]
    assert all(point.drop is not None and point.drop.value > 0.05 for point in smaller)


def test_a_drop_that_no_file_keeps_to_is_told_with_the_best_file():
    data, labels = labelled(80)
    options = {"labels": labels, "metric": "top1", "candidates": ("weight_only_int2", "weight_only_int2_block32")}
    result = tfq.search(CONTENT, data, max_drop=0, **options)
    assert "no file of these candidates keeps to a drop of 0" in result.problem
    assert result.point.drop == min((p.drop for p in result.frontier if p.drop), key=lambda drop: drop.value)


def test_rules_name_layers_once():
    found = [(unit.layer, unit.keys) for unit in units_of(GRAPH)]
    assert found == [("conv", ((0, 0),)), ("depthwise", ((0, 1),)), ("dense", ((0, 3),))]


def test_the_command_writes_the_file_and_its_recipe(tmp_path: Any, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "m.tflite").write_bytes(CONTENT)
    np.savez(tmp_path / "d.npz", x=DATA)
    names = {name: str(tmp_path / name) for name in ("m.tflite", "d.npz", "o.tflite", "r.json", "p.json")}
    given = ("search", names["m.tflite"], "--data", names["d.npz"], "--max-bytes", "30%", "--quality", "fast")
    shown = ("--measure", "kl", "--processes", "1", "--report", names["p.json"])
    with pytest.raises(SystemExit) as ended:
        main((*given, *shown, "--no-refit", "--output", names["o.tflite"], "--recipe", names["r.json"]))
    assert not ended.value.code
    assert json.loads((tmp_path / "p.json").read_text())["bytes"] == (tmp_path / "o.tflite").stat().st_size
    assert (tmp_path / "o.tflite").stat().st_size <= 0.3 * len(CONTENT)
    assert json.loads((tmp_path / "r.json").read_text())["name"] == "search"
    assert "dense (FULLY_CONNECTED)" in capsys.readouterr().out


def with_a_wide_layer() -> bytes:
    """The wide CNN in which one channel of what the dense layer reads is 2,000 times as large as the others."""
    graph = wide_cnn()
    dense = next(op for op in graph.main.ops if op.code == "FULLY_CONNECTED")
    depthwise = next(op for op in graph.main.ops if op.code == "DEPTHWISE_CONV_2D")
    tensors = list(graph.main.tensors)
    for t, factor in ((depthwise.inputs[1], 2000), (depthwise.inputs[2], 2000), (dense.inputs[1], 1 / 2000)):
        data = tensors[t].constant.copy()
        data[..., 3] *= factor
        tensors[t] = replace(tensors[t], data=data)
    return flatbuffer.write(replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)),)))


def test_activations_of_16_bits_go_to_the_layers_that_need_them():
    """A compiler takes integers alone, so that its candidates have activations of 16 bits."""
    content = with_a_wide_layer()
    coarse = tfq.quantize(content, "full_int8", DATA, runtimes="ethos-u", transforms=None)
    result = tfq.search(content, DATA, max_bytes=len(coarse.content) + 600, runtimes="ethos-u")
    chosen = {row.layer.split()[0]: row.chosen for row in result.layers}
    assert chosen["depthwise"] == chosen["dense"] == "full_int16x8"
    losses = {row.layer.split()[0]: row.loss["full_int8"] / row.loss["full_int16x8"] for row in result.layers}
    assert min(losses["depthwise"], losses["dense"]) > 1000 > losses["conv"]
    smaller = tfq.search(content, DATA, max_bytes=len(coarse.content), runtimes="ethos-u")
    assert {row.chosen for row in smaller.layers} == {"full_int8"}


def test_granularity_mode_and_algorithm_are_candidates():
    """Of two specs of equal bytes the one that loses less is chosen, and the recipe says which."""
    specs = [
        tfq.OpSpec("weight_only", tfq.WeightSpec(4, granularity, algorithm=algorithm))
        for granularity in (tfq.PerTensor(), tfq.PerChannel())
        for algorithm in ("round_to_nearest", "mse_clip")
    ]
    result = tfq.search(CONTENT, DATA, max_bytes=0.45, candidates=(*specs, "dynamic_int8"))
    row = next(row for row in result.layers if row.layer.startswith("dense"))
    names = [name for name in row.loss if name.startswith("spec")]
    assert len(names) == 4 and len({row.loss[name] for name in names}) == 4
    assert row.loss[names[0]] > row.loss[names[3]] and row.bytes[names[2]] == row.bytes[names[3]]
    chosen = {row.layer.split()[0]: row.chosen for row in result.layers}
    rules = {rule.layer: rule.spec for rule in result.recipe.rules}
    for layer, name in chosen.items():
        assert rules[layer] == (specs[names.index(name)] if name in names else tfq.RECIPES["dynamic_int8"].default)
