"""Experiments: groups of runs from one file, planned, started, stopped and gone on with."""
