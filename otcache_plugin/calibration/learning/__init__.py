"""Learning which steps to compute, from what sampled schedules lose."""
