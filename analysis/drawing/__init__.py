"""The look of every figure, and what several figures draw alike."""
