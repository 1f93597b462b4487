"""Entity F1 by epoch of many trainings that run at once, ours and bert4torch's."""
