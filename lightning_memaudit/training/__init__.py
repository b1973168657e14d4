"""Making the record: train and score one model, and run through a population of them."""
