"""The coverage matrix: every pipeline, tiny, with both executors, and what came of it."""
