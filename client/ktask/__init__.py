"""Client library of ktaskd."""
