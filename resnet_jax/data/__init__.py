"""Which examples a run sees, and in what order."""
