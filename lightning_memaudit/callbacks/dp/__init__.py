"""The parts of ``DifferentialPrivacy``: Poisson samples, per-example gradients, the noisy optimizer, and refusals."""
