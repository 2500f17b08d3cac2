"""Errors that a user can act on."""


class SnojoeError(Exception):
    """Bad input: the message names the file, parameter or class and says what was expected.

    Stages and the command line print the message alone, without a traceback, and exit with 1 and
    2 (on the command line, 1 is an answer).
    """
