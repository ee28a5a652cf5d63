"""What the package registers itself, for the tests that list everything there is."""

from __future__ import annotations

BUILT_IN_POLICIES = (
    "budcache",
    "dicache",
    "direct",
    "gram",
    "lemica",
    "meancache",
    "otcache",
    "recache",
    "teacache",
    "uniform",
)
"""In the order of their names."""
