"""Measurements of what things cost."""
