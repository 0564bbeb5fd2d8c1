"""What this peer gives to others: which blocks, to whom first, and how fast."""
