"""Models and datasets for the Hub, with cards that say where they come from."""
