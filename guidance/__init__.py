"""Train image classifiers that are right for the right reasons. Importing has no side effects."""

__version__ = "0.1.0"
