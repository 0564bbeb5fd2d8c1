"""What central keeps on disk, and the one engine that keeps it, on SQLite."""
