"""The groups of an experiment: every epoch of their runs, one front for each, and what seeds say of it."""
