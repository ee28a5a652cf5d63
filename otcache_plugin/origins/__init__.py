"""Which model, at which revision, a pipeline is: found out, or resolved before it is loaded."""
