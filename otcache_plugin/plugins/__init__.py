"""What plugins register, and who loads them."""
