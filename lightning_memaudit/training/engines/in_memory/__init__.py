"""One model on batches gathered in memory, step by step as Lightning's own loop trains it."""
