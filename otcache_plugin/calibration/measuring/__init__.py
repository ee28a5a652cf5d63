"""Measured values of a calibration: who measures them, and where they are kept."""
