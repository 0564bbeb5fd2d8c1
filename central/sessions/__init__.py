"""Who is there: logins, heartbeats, leases, and through whom each central reaches the network."""
