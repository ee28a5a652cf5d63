"""Another last heat of a race, which was tried: rounds of newcomers by a surrogate."""
