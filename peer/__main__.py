"""`python -m peer` is `relevo`."""

from peer.cli import main

if __name__ == "__main__":
    main()
