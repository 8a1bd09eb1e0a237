"""Many small networks, each trained past its best validation loss on one core: tasks, kernels, measurements."""
