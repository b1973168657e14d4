"""The questions that a report answers, one a file."""
