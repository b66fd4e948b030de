"""How each architecture's config.json is read. One file a family; every model_type here is checked in tests."""
