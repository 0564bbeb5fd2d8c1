"""What a peer offers: its shared directory, finished downloads elsewhere, and the copies that it stores for others."""

from peer.library.library import Library, LibraryFile, LibrarySettings

__all__ = ["Library", "LibraryFile", "LibrarySettings"]
