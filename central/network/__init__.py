"""Who belongs to the network: its authorities, invitations, members and revocations."""
