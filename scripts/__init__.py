"""Steps of this project, and what its default profiles are made of. No part of the library."""
