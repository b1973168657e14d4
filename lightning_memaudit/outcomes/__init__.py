"""What each model did on each example: scoring, and the record on disk."""
