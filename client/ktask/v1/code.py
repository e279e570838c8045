"""A client's own functions as they travel: pickled by value, with where their modules are found.

Code goes to workers of the same user only, and comes back from those only: whoever unpickles
runs what the other side wants.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import sys
import traceback
import types
from collections.abc import Mapping
from typing import Any

from ktask.v1 import start, surroundings

PYTHON = "{}.{}".format(*sys.version_info)
"""Functions by value are byte code, which only the same version runs."""

_MAGIC = b"ktask code 1\n"
_TEXT_MAX = 64 * 1024


class CodeInvalid(Exception):
    """What should be code is none, or none for this Python; the text says which."""


class ModuleMissing(ModuleNotFoundError):
    """Code of a program names a module that a worker cannot import; the text has the next step."""


class RemoteTraceback(Exception):
    """The cause of an exception that was raised in a worker: where, as text."""

    @property
    def tb(self) -> str:
        """The traceback; a pool of processes has it by this name."""
        return str(self.args[0])

    def __str__(self) -> str:
        """The traceback, on lines of its own."""
        return f'\n"""\n{self.tb}"""'


def dumps(value: Any) -> bytes:
    """Pickle a value, its functions and classes by value where no module has them.

    Raises whatever pickling it raises, and ImportError without cloudpickle.
    """
    buffer = io.BytesIO()
    pickler()(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


@functools.cache
def pickler() -> Any:
    """Return the class of picklers that `dumps` uses, with cloudpickle loaded only now."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            """Pickle a class method by its class: by value its lines would be missing from tracebacks."""
            if isinstance(obj, types.MethodType) and _is_of_class(obj):
                return getattr, (obj.__self__, obj.__name__)
            return super().reducer_override(obj)

    return Pickler


def _is_of_class(method: types.MethodType) -> bool:
    owner = method.__self__
    return isinstance(owner, type) and getattr(owner, method.__name__, None) == method


def loads(data: bytes | memoryview) -> Any:
    """Return a value that another process has pickled.

    Raises:
        ModuleMissing: it needs a module that cannot be imported here.
        Exception: whatever else unpickling it raises.
    """
    try:
        return pickle.loads(data)
    except ModuleNotFoundError as error:
        here, program = start.interpreters()
        words = (
            f"{error}: the worker, {here}, cannot import it; your program is {program or 'not known'}; "
            f"install it (python3 -m pip --python {sys.executable} install ...), or, if it "
            "exists only in your program, call cloudpickle.register_pickle_by_value(module) there"
        )
        raise ModuleMissing(words, name=error.name, path=error.path) from error


def pack(value: Any, also: Mapping[str, str] | None = None) -> bytes:
    """A value with the surroundings of this process, in one piece; `also` as in surroundings.take."""
    head = json.dumps({"python": PYTHON}).encode()
    return b"".join((_MAGIC, head, b"\n", surroundings.take(also), b"\n", dumps(value)))


def unpack(data: bytes) -> Any:
    """The value, once its surroundings were taken on here.

    Raises:
        CodeInvalid: it is no code, or of another Python.
        StartAgain, CannotStart: as surroundings.take_on.
        Exception: whatever unpickling it raises, such as ModuleNotFoundError.
    """
    if not data.startswith(_MAGIC):
        raise CodeInvalid("code: got something else, wanted what ktask.Client.run makes of a function")
    head, found, place = data[len(_MAGIC) :].split(b"\n", 2)
    try:
        python = json.loads(head)["python"]
    except (ValueError, KeyError, TypeError) as error:
        raise CodeInvalid(f"code: {type(error).__name__}: {error}") from error
    try:
        surroundings.take_on(found)
    except surroundings.SurroundingsInvalid as error:
        raise CodeInvalid(f"code: {error}") from error
    check_python(python)  # not before: a worker that starts again has the program's version
    return loads(place)


def check_python(theirs: str) -> None:
    """Raise CodeInvalid unless the other side has the same version."""
    if theirs != PYTHON:
        raise CodeInvalid(
            f"code: got that of Python {theirs}, this is Python {PYTHON}; "
            "run the program and the daemon with the same version"
        )


def dump_exception(error: BaseException) -> bytes:
    """An exception with its traceback; one that cannot be pickled becomes one that can."""
    text = "".join(traceback.format_exception(error))[-_TEXT_MAX:]
    try:
        data = dumps((error, text))
        pickle.loads(data)  # an exception that asks for arguments fails only here
    except Exception as why:
        words = f"{in_words(error)} (could not be pickled: {in_words(why)})"
        data = pickle.dumps((RuntimeError(words), text))
    return data


def in_words(error: BaseException) -> str:
    """As in "ValueError: no", whatever its own str() does."""
    return "".join(traceback.format_exception_only(error)).strip()


def load_exception(data: bytes) -> BaseException:
    """The exception, its cause being the traceback; one that cannot be loaded is told as such."""
    try:
        error, text = pickle.loads(data)
        assert isinstance(error, BaseException)
    except Exception as why:
        return CodeInvalid(f"exception of a call: could not be unpickled: {in_words(why)}")
    error.__cause__ = RemoteTraceback(text)
    return error
