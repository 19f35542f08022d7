"""Benchmarks that judge attribution methods, with and without the lens: localisation, insertion and deletion, randomisation."""
