"""Pure functions from records to tables: intervals, curves, ratios. No torch."""
