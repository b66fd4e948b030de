"""Tasks: samples, a prompt and a scorer; one file a task."""
