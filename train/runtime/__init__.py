"""What every training shares: checkpoints, processes, downloads, order of samples, flags for data and device."""
