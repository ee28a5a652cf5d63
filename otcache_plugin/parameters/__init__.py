"""The parameters of the built-in policies, and the policies that are made of them."""
