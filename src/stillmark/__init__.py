"""Stillmark: is a distilled small language model worth it?"""

__version__ = "0.1.0"
