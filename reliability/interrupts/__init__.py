"""Work that is killed, runs out of disk, or is done by several threads and processes."""
