"""What is measured beside other software, on real data. README.md says how."""
