"""From the texts of docs to wordpieces, and to the windows that cover them."""
