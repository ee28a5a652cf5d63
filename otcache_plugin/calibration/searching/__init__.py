"""Choosing schedules by measured losses."""
