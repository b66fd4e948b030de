"""The page, the tables and the figures, made from the store alone. No torch."""
