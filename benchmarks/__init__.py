"""Measurements of tfq_fine on real models and labelled data."""
