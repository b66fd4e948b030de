"""How the config.json of each architecture is read. One file a family; tests check every model_type."""
