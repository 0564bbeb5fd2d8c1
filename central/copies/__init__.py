"""Copies that were promised: who is to store them, and whether they are there."""
