"""One module per rlft verb; each is thin."""
