"""Engines that run a model: one file an engine, one small protocol (`protocol.py`)."""
