"""Executors: what makes a schedule happen inside a pipeline."""
