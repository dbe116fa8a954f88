"""What encoders and readers share: checkpoints, the hub, loading, memory, batches, attention, vocabularies."""
