"""Changes that make a graph easier to quantize, or undo on average what quantization did to it."""
