"""The packages this one needs: other versions of them, and their known weaknesses."""
