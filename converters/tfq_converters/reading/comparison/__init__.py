"""The comparison of a conversion with its model on random inputs, and the layer that differs first."""
