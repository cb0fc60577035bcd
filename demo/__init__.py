"""`python -m demo`: the real handlers on embedded parts, and what became of flow runs of several kinds."""
