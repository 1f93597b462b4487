"""One encoder for several components: the layer that listens to it, and a batch that they share."""
