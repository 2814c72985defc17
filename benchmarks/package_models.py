"""How far a recipe takes the models of packages from their own float results.

`python -m benchmarks.package_models [--recipe full_int8] [MODEL ...]` prints, for each output, its SQNR over all test
samples, and how often it agrees with float: the largest entry of the last axis where there are several scores of which
one is to be chosen (of each position), else the side of 0.5 (probabilities of their own) or of 0 (scores).
"""

import argparse
import time

import numpy as np

from benchmarks.zoo import FILES, FileCase
from tfq_converters.check import sqnr
from tfq_converters.reading import read_model
from tfq_converters.runtime import Runner
from tfq_fine import quantize


def agreement(expected: np.ndarray, found: np.ndarray) -> float:
    """The share of decisions that are the same."""
    own = expected.min() >= 0 and expected.max() <= 1 and not np.allclose(expected.sum(-1), 1, atol=1e-3)
    if expected.shape[-1] > 1 and not own:
        return float(np.mean(expected.argmax(-1) == found.argmax(-1)))
    limit = 0.5 if expected.min() >= 0 and expected.max() <= 1 else 0.0
    return float(np.mean((expected > limit) == (found > limit)))


def measured(case: FileCase, recipe: str) -> list[tuple[float, float]]:
    """(SQNR in dB, agreement) of each output of the file, in output order."""
    result = quantize(case.model, recipe, data=case.calibration)
    float_runner, runner = Runner(read_model(case.model).content), Runner(result.content)
    pairs = [(float_runner.run([x[None]]), runner.run([x[None]])) for x in case.test]
    found = []
    for k in range(len(pairs[0][0])):
        expected, got = (np.concatenate([pair[side][k] for pair in pairs]) for side in (0, 1))
        found.append((sqnr([(expected, got)]), agreement(expected, got)))
    return found


def main() -> None:
    """One line for each output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(FILES)}")
    parser.add_argument("--recipe", default="full_int8")
    given = parser.parse_args()
    for name in given.models or FILES:
        start = time.perf_counter()
        try:
            rows = measured(FILES[name](), given.recipe)
        except Exception as error:
            print(f"{name:34} {type(error).__name__}: {str(error)[:300]}", flush=True)
            continue
        outputs = ", ".join(f"{db:5.1f} dB {share:6.1%}" for db, share in rows)
        print(f"{name:34} {outputs}   ({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
