"""The training loop and what it carries."""
