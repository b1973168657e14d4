"""Other processes that train models: what is sent to them, what they run, and what they answer."""
