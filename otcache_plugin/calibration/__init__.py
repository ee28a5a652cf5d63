"""Calibration: from a pipeline to a policy document."""
