"""`enable_cache` with a policy: from arguments to a plan that an executor follows."""
