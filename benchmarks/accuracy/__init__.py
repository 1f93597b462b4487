"""How good a training is: beside bert4torch, by recipe and epoch, on parts and on joined texts."""
