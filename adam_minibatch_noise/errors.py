"""The error of every function and program of this project for input that has no meaning."""


class InputError(ValueError):
    """An argument, a flag, a configuration value or a file that cannot be used.

    The message is one line that names the value and what is allowed; programs print it and exit with status 2.
    """
