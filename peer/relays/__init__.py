"""Peers that nobody can dial: how that is found out, and how others answer for them and carry their calls."""
