"""Records in files and in datasets of a hub, whatever they mean."""
