"""Prompts to calibrate and to evaluate on: 50 each ship with the package, or a file's."""
