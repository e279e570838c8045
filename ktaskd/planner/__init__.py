"""Plans which worker does which positions. Pure: facts in, plan out."""
