"""What a use of the library that its list does not allow raises.

The errors are also those that the real bindings raise, so that ``hasattr`` and code that catches
AttributeError or TypeError behave as with the real library.
"""


class ApiError(AssertionError):
    """The library of this version has no such name, or does not take such a call."""


class UnknownNameError(ApiError, AttributeError):
    """A name, an attribute or a member that is not in the list, or one that cannot be set."""


class BadCallError(ApiError, TypeError):
    """Arguments that no signature in the list takes."""
