"""What the package registers itself, for the tests that list everything there is."""

from __future__ import annotations

BUILT_IN_POLICIES = (
    "budcache",
    "direct",
    "gram",
    "lemica",
    "meancache",
    "otcache",
    "recache",
    "uniform",
)
"""In the order of their names."""
