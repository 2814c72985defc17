"""Keras models: loaded safely, as trees of layers, as functions of named tensors, in float32, converted."""
