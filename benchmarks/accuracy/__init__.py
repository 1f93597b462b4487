"""How good a training is: beside bert4torch, with partial annotation, by recipe, on long texts."""
