"""`tfq-fine recipes`: the presets, one line each."""

import argparse

from tfq_fine.request import RECIPES


def run(arguments: argparse.Namespace) -> int:
    """Print names and descriptions."""
    width = max(map(len, RECIPES))
    for name, recipe in RECIPES.items():
        print(f"{name:{width}}  {recipe.description}")
    return 0
