"""The meter of the noise scale in other people's trainers: `huggingface` and `lightning`, each with its extra."""
