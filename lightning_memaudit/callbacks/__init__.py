"""What attaches to a user's Trainer, one callback a file."""
