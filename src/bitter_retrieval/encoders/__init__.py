"""The bi-encoder: texts to unit vectors, and its unsupervised start."""
