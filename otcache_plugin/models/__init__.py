"""Models that ship with the package: the embedded trained pipeline and the exact-flow test-bed."""
