"""Counts matches in one call with PCRE2's just-in-time compiler, from the system's library.

The library is optional. It is not used if it is missing or older than 10.38, or if the process may not
make memory executable (`MemoryDenyWriteExecute=` of systemd): its interpreter would be slower than RE2.

Source: pcre2api(3), pcre2jit(3), pcre2.h
"""

from __future__ import annotations

import ctypes
import weakref
from functools import lru_cache
from typing import Any

_LIBRARY = "libpcre2-8.so.0"

_MULTILINE, _NEVER_BACKSLASH_C = 0x400, 0x100000
_JIT_COMPLETE = 0x1
_GLOBAL, _REPLACEMENT_ONLY = 0x100, 0x20000

_PROBE, _PROBE_TEXT, _PROBE_COUNT = rb"a[^\n]*+\n", b"aa\nb\nba\n", 2
"""A pattern and a text that show whether the library knows the options and can compile."""


class Program:
    """A compiled pattern, freed with its last reference.

    Args:
        code: result of pcre2_compile, compiled to machine code as well.
    """

    def __init__(self, library: Any, code: int) -> None:
        """Own the code, and allocate match data for one match."""
        self._substitute = library.pcre2_substitute_8
        self._code = code
        self._found = library.pcre2_match_data_create_8(1, None)
        self._nothing = ctypes.create_string_buffer(1)
        self._length = ctypes.c_size_t()
        weakref.finalize(self, _free, library, code, self._found)

    def count(self, text: bytes, start: int, end: int) -> int:
        """Count the consecutive matches in text[start:end].

        Assertions see the bytes before `start`, but none after `end`.

        Returns:
            The number of matches; negative if PCRE2 gave up, for example at a limit.
        """
        self._length.value = 1
        # Each match is replaced with nothing, and only replacements are written, so nothing is written.
        return int(
            self._substitute(
                *(self._code, text, end, start, _GLOBAL | _REPLACEMENT_ONLY, self._found, None),
                *(b"", 0, self._nothing, ctypes.byref(self._length)),
            )
        )

    def replaced(self, text: bytes, by: bytes, most: int) -> bytes | None:
        """Return the text with each match replaced; None if PCRE2 gave up.

        Args:
            by: literal bytes without `$`.
            most: bytes that the result may have.
        """
        output = ctypes.create_string_buffer(most + 1)
        self._length.value = len(output)
        found = self._substitute(
            *(self._code, text, len(text), 0, _GLOBAL, self._found, None),
            *(by, len(by), output, ctypes.byref(self._length)),
        )
        return None if found < 0 else ctypes.string_at(output, self._length.value)


def _free(library: Any, code: int, found: int) -> None:
    library.pcre2_match_data_free_8(found)
    library.pcre2_code_free_8(code)


def program_of(pattern: bytes) -> Program | None:
    """Compile a pattern in which `^` matches at the begin of each line.

    Returns:
        None if the library is not available or refuses the pattern.
    """
    library = _library()
    return None if library is None else _program(library, pattern)


@lru_cache(maxsize=1)
def _library() -> Any:
    """Load the library once; None if it is missing or too limited."""
    try:
        library = _declared(ctypes.CDLL(_LIBRARY))
    except (OSError, AttributeError):
        return None
    probe = _program(library, _PROBE)
    works = probe is not None and probe.count(_PROBE_TEXT, 0, len(_PROBE_TEXT)) == _PROBE_COUNT
    return library if works else None


def _declared(library: Any) -> Any:
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32
    text, sizes = ctypes.c_char_p, ctypes.POINTER(ctypes.c_size_t)
    library.pcre2_compile_8.restype = pointer
    library.pcre2_compile_8.argtypes = [text, size, number, ctypes.POINTER(ctypes.c_int), sizes, pointer]
    library.pcre2_jit_compile_8.argtypes = [pointer, number]
    library.pcre2_match_data_create_8.restype = pointer
    library.pcre2_match_data_create_8.argtypes = [number, pointer]
    library.pcre2_substitute_8.argtypes = [
        *(pointer, text, size, size, number, pointer, pointer),
        *(text, size, pointer, sizes),
    ]
    library.pcre2_match_data_free_8.restype = library.pcre2_code_free_8.restype = None
    library.pcre2_match_data_free_8.argtypes = library.pcre2_code_free_8.argtypes = [pointer]
    return library


def _program(library: Any, pattern: bytes) -> Program | None:
    error, offset = ctypes.c_int(), ctypes.c_size_t()
    options = _MULTILINE | _NEVER_BACKSLASH_C
    code = library.pcre2_compile_8(
        pattern, len(pattern), options, ctypes.byref(error), ctypes.byref(offset), None
    )
    if code is None:
        return None
    if library.pcre2_jit_compile_8(code, _JIT_COMPLETE) != 0:
        library.pcre2_code_free_8(code)
        return None
    return Program(library, code)
