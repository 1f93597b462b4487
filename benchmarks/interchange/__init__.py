"""Models that go to bert4torch and come back."""
