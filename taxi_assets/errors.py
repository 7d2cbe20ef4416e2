"""The errors that are told to a person in one sentence: what is wrong, where, and what to do.

Whether another attempt can help is a matter of the class, so that nothing retries a file that is not there.
"""

from __future__ import annotations


class TaxiError(Exception):
    """Something that stays wrong until somebody changes it; the message is one sentence."""


class BadTripFileError(TaxiError):
    """A trip file that is not what it should be. Nothing of it is loaded."""


class NotPublishedError(TaxiError):
    """The source does not have the file, or not yet."""


class TransientError(TaxiError):
    """Something that may be right at the next attempt: a network, a server that restarts."""
