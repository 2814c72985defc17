"""The stock converter: how it is called, kept quiet, and what its graphs lack."""
