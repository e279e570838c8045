"""Pickles a client's own functions by value, together with the surroundings that they need.

Pickles are exchanged only between processes of the same user, because unpickling runs whatever
code the other side chose.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from typing import Any

from ktask.v1 import start, surroundings

PYTHON = "{}.{}".format(*sys.version_info)
"""Functions pickled by value are byte code, which needs the same version."""

_MAGIC = b"ktask code 1\n"
_TEXT_MAX = 64 * 1024


class CodeInvalid(Exception):
    """The data is no pickled code, or code for another version of Python; the text says which."""


class ModuleMissing(ModuleNotFoundError):
    """Code of a program needs a module that a worker cannot import; the text has the next step."""


class RemoteTraceback(Exception):
    """The cause of an exception that was raised in a worker; its text is the traceback."""

    @property
    def tb(self) -> str:
        """The traceback, under the same name as in concurrent.futures."""
        return str(self.args[0])

    def __str__(self) -> str:
        """The traceback, on lines of its own."""
        return f'\n"""\n{self.tb}"""'


def dumps(value: Any) -> bytes:
    """Pickle a value; functions and classes that no module has are pickled by value.

    Raises whatever pickling raises, and ImportError without cloudpickle.
    """
    buffer = io.BytesIO()
    pickler()(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


@functools.cache
def pickler() -> Any:
    """Return the pickler class that `dumps` uses; cloudpickle is imported only now."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            """Pickle a class method by its class: by value, tracebacks would not show its lines."""
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
        ModuleMissing: the value needs a module that cannot be imported here.
        Exception: whatever else unpickling raises.
    """
    return explained(lambda: pickle.loads(data))


def explained(load: Callable[[], Any]) -> Any:
    """Return what `load` returns; raises as `loads`."""
    try:
        return load()
    except ModuleNotFoundError as error:
        here, program = start.interpreters()
        words = (
            f"{error}: the worker, {here}, cannot import it; your program is {program or 'not known'}; "
            f"install it (python3 -m pip --python {sys.executable} install ...), or, if it "
            "exists only in your program, call cloudpickle.register_pickle_by_value(module) there"
        )
        raise ModuleMissing(words, name=error.name, path=error.path) from error


def pack(value: Any, also: Mapping[str, str] | None = None) -> bytes:
    """Pickle a value together with the surroundings of this process; `also` as in surroundings.take."""
    head = json.dumps({"python": PYTHON}).encode()
    return b"".join((_MAGIC, head, b"\n", surroundings.take(also), b"\n", dumps(value)))


def unpack(data: bytes) -> Any:
    """Take on the surroundings in `data`, then return the value in it.

    Raises:
        CodeInvalid: the data is no pickled code, or code for another Python.
        StartAgain, CannotStart: as surroundings.take_on.
        Exception: whatever unpickling raises, such as ModuleNotFoundError.
    """
    if not data.startswith(_MAGIC):
        raise CodeInvalid("code: got other data, wanted code that ktask.Client.run has pickled")
    head, found, place = data[len(_MAGIC) :].split(b"\n", 2)
    try:
        python = json.loads(head)["python"]
    except (ValueError, KeyError, TypeError) as error:
        raise CodeInvalid(f"code: {type(error).__name__}: {error}") from error
    try:
        surroundings.take_on(found)
    except surroundings.SurroundingsInvalid as error:
        raise CodeInvalid(f"code: {error}") from error
    check_python(python)  # only now: a worker that had to start again has the program's version by now
    return loads(place)


def check_python(theirs: str) -> None:
    """Raise CodeInvalid unless the other side has the same version."""
    if theirs != PYTHON:
        raise CodeInvalid(
            f"code: pickled by Python {theirs}, but this is Python {PYTHON}; "
            "run the program and the daemon with the same version"
        )


def dump_exception(error: BaseException) -> bytes:
    """Pickle an exception with its traceback; if that fails, pickle a RuntimeError that describes it."""
    text = "".join(traceback.format_exception(error))[-_TEXT_MAX:]
    try:
        data = dumps((error, text))
        pickle.loads(data)  # an exception whose class requires arguments fails only here
    except Exception as why:
        words = f"{in_words(error)} (could not be pickled: {in_words(why)})"
        data = pickle.dumps((RuntimeError(words), text))
    return data


def in_words(error: BaseException) -> str:
    """Type and text, as in "ValueError: no", even if its str() raises."""
    return "".join(traceback.format_exception_only(error)).strip()


def load_exception(data: bytes | memoryview) -> BaseException:
    """Unpickle an exception, with the traceback as its cause; returns CodeInvalid if that fails."""
    try:
        error, text = pickle.loads(data)
        assert isinstance(error, BaseException)
    except Exception as why:
        return CodeInvalid(f"exception of a call: could not be unpickled: {in_words(why)}")
    error.__cause__ = RemoteTraceback(text)
    return error
