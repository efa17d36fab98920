"""Errors that a person reads.

A `UserError` says what was got, what was expected and what to do next; the command line prints it
without a traceback and exits with its `code`. Everything else is a bug and keeps its traceback.
"""


class UserError(Exception):
    """Error that the user can correct; its message says what was got, what was expected and what to do."""

    code = 2


class WeightsError(UserError):
    """Error for weights that were asked for and are not available here."""

    code = 3


class RunEnded(UserError):
    """Error for a run stopped early with a named verdict; its last good state is on disk."""

    code = 4


def out_of_memory(error: BaseException) -> bool:
    """Return whether this error of Python, torch (CPU or CUDA) or C++ means that memory has run out."""
    said = ("DefaultCPUAllocator", "an't allocate memory", "not enough memory", "std::bad_alloc", "out of memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(s in str(error) for s in said))


def reason(error: Exception) -> str:
    """Return the system's reason for refusing, in one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
