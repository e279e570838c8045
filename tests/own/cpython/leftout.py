"""CPython's tests that are left out, with reasons, which are printed with the counts."""

from __future__ import annotations

SHARED = "calls change an object of the program, which workers of any pool of processes cannot"
INHERITED = "hands over a semaphore of multiprocessing, which only the program's own children can be given"
THREADS = "about names and numbers of threads that do the calls: ours are processes"
COUNTED = "counts the pool's processes: how many workers come the daemon decides"
RECYCLED = "about max_tasks_per_child: our workers are renewed with the job, not by a count"

LEFT_OUT = {
    "ThreadPoolShutdownTest": {
        "test_threads_terminate": THREADS,
        "test_thread_names_assigned": THREADS,
        "test_thread_names_default": THREADS,
    },
    "ProcessPoolShutdownTest": {
        "test_processes_terminate": COUNTED,
    },
    "ThreadPoolExecutorTest": {
        "test_map_submits_without_iteration": SHARED,
        "test_executor_map_current_future_cancel": SHARED,
        "test_default_workers": "a number for threads: ours is that of the usable CPUs",
        "test_saturation": THREADS,
        "test_idle_thread_reuse": THREADS,
    },
    "ProcessPoolExecutorTest": {
        "test_killed_child": "wants the pool broken by one dead worker: ours fails that call and goes on",
        "test_saturation": INHERITED,
        "test_idle_process_reuse_one": COUNTED,
        "test_idle_process_reuse_multiple": COUNTED,
        "test_max_tasks_per_child": RECYCLED,
        "test_max_tasks_per_child_defaults_to_spawn_context": RECYCLED,
        "test_max_tasks_early_shutdown": RECYCLED,
    },
}
"""By class."""

OWN_ERRORS = {
    "test_exit_at_task_unpickle": SystemExit,
    "test_error_at_task_unpickle": "UnpicklingError",
    "test_error_during_result_unpickle_in_result_handler": "UnpicklingError",
    "test_exit_during_result_unpickle_in_result_handler": SystemExit,
}
"""Tests that expect a broken pool; ours fails only the one call, so they run with that error."""

WARM = ("test_cancel_futures", "test_cancel_futures_wait_false")
"""Tests that expect a call to begin at once; they run with an executor that has its first worker."""
