"""Many experiments at once: sweeps, tuning and confirmation on unseen worlds."""
