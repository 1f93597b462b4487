"""What a GPU does with the component, and peers beside it."""
