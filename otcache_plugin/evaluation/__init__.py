"""Measuring what a schedule costs: prompt-seed pairs, metrics, paired statistics."""
