"""What the commands share; no module here is a command."""
