"""The folder of a run: checkpoints, front, logs."""
