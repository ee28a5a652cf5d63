"""What a run is to do, and what it did."""
