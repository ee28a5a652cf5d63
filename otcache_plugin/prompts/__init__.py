"""Prompts to calibrate and to evaluate on: 50 of each ship with the package, or files of one's own."""
