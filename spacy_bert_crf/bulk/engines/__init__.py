"""How shards come to processes: those of this machine, or actors of Ray."""
