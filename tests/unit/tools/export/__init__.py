"""Tests of exported nets."""
