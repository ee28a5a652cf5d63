"""The race: at every budget, candidates of several families run against each other."""
