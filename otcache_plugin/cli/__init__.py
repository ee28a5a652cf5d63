"""The ``otcache`` command."""
