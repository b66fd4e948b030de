"""Models: shapes, loading, tokenizers."""
