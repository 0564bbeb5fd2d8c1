"""Fetching one content from many holders at once, every block verified, into a file that appears whole."""
