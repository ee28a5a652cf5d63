"""Policy documents: their schema, their folders, their names, and those that are bundled."""
