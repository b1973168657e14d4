"""Gates: a policy in, a verdict for each rule and group out, and one exit code."""
