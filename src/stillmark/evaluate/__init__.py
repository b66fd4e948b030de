"""Running a task on a model: every sample is recorded."""
