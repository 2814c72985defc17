"""Data of the examples and of the benchmarks: fetched by package name with the ordinary clients, and kept."""
