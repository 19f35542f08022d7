"""The file of an experiment: what it may say, read, and described for editors and the docs."""
