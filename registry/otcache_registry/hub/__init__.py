"""The Hugging Face Hub: what is asked of it, fetched from it and published on it."""
