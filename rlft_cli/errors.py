"""The ways a command can end badly, each with its exit status."""


class RlftError(Exception):
    """A failure that a person can understand: what was given, what was expected, what to type next."""

    exit_status = 1


class RewardFailure(RlftError):
    """A reward could not be had, or is no number: what was learned so far is worth saving."""


class UsageError(RlftError):
    """The command line or the configuration is wrong; nothing was started."""

    exit_status = 2
