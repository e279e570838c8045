"""Who does which positions. Pure: facts in, plan out."""
