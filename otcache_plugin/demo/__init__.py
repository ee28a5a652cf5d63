"""What ``otcache demo`` does: measures a model that ships with the package, and reports."""
