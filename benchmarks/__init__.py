"""Measurements of the whole, for those who work on it; nothing here is installed."""
