"""Records of data files and of hub datasets, independent of their meaning."""
