"""The coverage matrix: every pipeline, tiny, with every executor, and what came of it."""
