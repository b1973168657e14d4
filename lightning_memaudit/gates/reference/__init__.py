"""What a report is compared with: an earlier report or store, and how often a test set was looked at."""
