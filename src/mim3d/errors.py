"""The one exception that a user's mistake raises."""


class UserError(ValueError):
    """Something the user gave cannot be used: the message says what, where, and what would do.

    The command line prints the message on one line and exits with code 2; from Python it is an ordinary
    `ValueError`.
    """
