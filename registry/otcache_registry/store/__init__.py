"""The local store of pulled documents."""
