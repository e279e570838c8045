"""Each verb of ktask beside the program that it imitates."""
