"""joblib's tests that are left out, with reasons, which are printed with the counts."""

from __future__ import annotations

_T = "test_parallel.py::test_"
_GENERATORS = ("generator", "generator_unordered")

LEFT_OUT: dict[str, tuple[str, ...]] = {
    "wants an error, since loky's runs share an executor: ours do not, and go on": tuple(
        f"{_T}multiple_generator_call_separated_gc[{one}-{other}-loky-True]"
        for one in _GENERATORS
        for other in _GENERATORS
    ),
    "wants the warning that processes cannot be started there: calls of ours can start them, and be nested": (
        f"{_T}nested_parallel_warnings[loky-multiprocessing-True]",
        f"{_T}nested_parallel_warnings[multiprocessing-loky-True]",
        f"{_T}nested_parallel_warnings[threading-loky-True]",
    ),
    "looks for the name of loky's processes in a log": (
        f"{_T}parallel_with_interactively_defined_bound_method_loky",
    ),
    "needs several calls at once: while others want the CPUs, the daemon may run one after the other": (
        f"{_T}parallel_unordered_generator_returns_fastest_first[loky-2]",
        f"{_T}parallel_unordered_generator_returns_fastest_first[loky-4]",
        f"{_T}initializer_reused[4]",
        f"{_T}initializer_not_reused[2]",
        f"{_T}initializer_not_reused[4]",
    ),
}
"""Tests by reason: the name of the file and of the test."""
