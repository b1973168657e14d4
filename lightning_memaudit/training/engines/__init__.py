"""Ways of training models in this process: Lightning's loop, examples in memory, or many models at once."""
