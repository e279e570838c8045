"""Replaces loky's backend by ktask's, in a program of joblib's tests and in the programs that it starts."""

import os
import sys
from typing import Any


def _stand_in() -> None:
    import joblib.parallel
    from ktask.joblib import Backend

    class Standin(Backend):
        """Our backend, with the attributes that the tests read."""

        # Our backend is chosen explicitly and then uses all CPUs, as dask's does.
        default_n_jobs = 1

        def configure(self, *given: Any, **named: Any) -> int:
            """Store the name of the test."""
            with open(os.environ["KTASK_JOBLIB_USED"], "a") as file:
                file.write(os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0] + "\n")
            return int(super().configure(*given, **named))

        @property
        def _workers(self) -> Any:
            executor: Any = self._executor
            if executor is not None and hasattr(self, "_mapped"):
                executor._temp_folder = self._mapped._folder()
            return executor

    Standin.__name__ = Standin.__qualname__ = "LokyBackend"
    # Tests request it by name, by class and as the default. joblib.parallel keeps the class that
    # it has imported, and calls methods on it that only loky's executor has.
    joblib.parallel.BACKENDS["loky"] = Standin
    joblib._parallel_backends.LokyBackend = Standin


_HELPS = any(
    word.startswith(("from multiprocessing", "from joblib.externals", "joblib.externals"))
    for word in sys.orig_argv
)
"""Whether this is a child process of multiprocessing or loky, which loads only what it needs."""

if os.environ.get("KTASK_JOBLIB_BACKEND") == "ktask" and not _HELPS:
    _stand_in()

if os.environ.get("KTASK_JOBLIB_JOBS") and not _HELPS:
    import joblib

    joblib.parallel_config(backend="loky", n_jobs=int(os.environ["KTASK_JOBLIB_JOBS"]))
