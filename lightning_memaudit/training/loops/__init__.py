"""Training loops of our own, inside a Trainer that is set up as always."""
