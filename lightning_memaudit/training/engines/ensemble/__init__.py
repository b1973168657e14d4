"""Many models at once: one LightningModule, unmodified, over stacked parameters."""
