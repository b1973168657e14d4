"""The arms of an audit: each treatment's models, trained or made from baseline models, and their learning rate."""
