"""What the user has asked for and takes time: downloads, uploads and stored copies, kept over restarts."""
