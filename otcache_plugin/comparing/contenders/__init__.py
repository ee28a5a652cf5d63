"""The methods that are compared: a module for each place where they come from."""
