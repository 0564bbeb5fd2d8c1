"""Fetching many files at once: whole directories and patterns, the small files many to a call."""
