"""Commands that hand a trained pipeline on: its model card, and its upload to a hub."""
