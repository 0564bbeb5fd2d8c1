"""Becoming and staying a member of a network: certificates, their renewal, and the entrance for whoever is cut off."""
