"""Measurements of cost; each leaves a JSON file of ratios taken in one run."""
