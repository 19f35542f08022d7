"""Runs as one HTML file: what it holds (`content`, `boxes`, `gallery`), and how it is put together (`page`)."""
