"""Finding and hooking the parts of a diffusers pipeline."""
