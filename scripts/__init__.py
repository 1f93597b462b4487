"""Steps of this project, and the parts of its default profiles. Not part of the library."""
