"""Forecast how gas, and any other field, evolves, with Memory-In-Memory networks in 2-D and 3-D."""

__version__ = "0.1.0"
