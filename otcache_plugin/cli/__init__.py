"""The `otcache` command."""
