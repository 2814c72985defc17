"""A `.tflite` graph computed in TensorFlow as the default kernels compute it: integers as codes, in float32.

`operators` says what every operator computes in float, `linear` what the integer and dynamic-range kernels of linear
operators compute, `codes` how values are put on codes, `interpreter` walks the graph.
"""
