"""Which examples a model trains on: the subset plan, the wrapper that applies it, and groups of examples."""
