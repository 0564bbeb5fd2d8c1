"""Connections to other programs: who they are, how they are dialled, and how fast bytes may flow."""
