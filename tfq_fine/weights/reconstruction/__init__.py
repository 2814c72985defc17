"""Roundings of several operators at once, learned by gradients: AdaRound and block reconstruction."""
