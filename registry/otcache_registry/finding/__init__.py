"""Which document a reference or a model revision stands for."""
