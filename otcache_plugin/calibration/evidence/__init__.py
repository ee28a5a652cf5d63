"""Held-out figures of a calibrated policy."""
