"""This peer and the central directory: its session, what it publishes, and its ways to central, also through others."""
