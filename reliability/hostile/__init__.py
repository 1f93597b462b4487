"""Input that is damaged or made to harm: files, archives, servers, texts."""
