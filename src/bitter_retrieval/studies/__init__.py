"""Many experiments at once: tuning, the location of the spread, and confirmation on unseen worlds."""
