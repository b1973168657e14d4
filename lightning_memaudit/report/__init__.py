"""Reports on a store: JSON, Markdown, figures."""
