/*
 * The types of a native function of ktaskd: ktask's thread function and undo.
 *
 * A manifest in /etc/ktaskd/functions.d names the library and the symbols. The daemon
 * never loads the library. Workers do, at the lowest priority, many at the same time,
 * each in a process of its own.
 */
#ifndef KTASK_FUNCTION_H
#define KTASK_FUNCTION_H

/* Success. Any other value ends the job; an errno, or its negative, is reported in words. */
#define KTASK_RETURN_SUCCESS 0

/*
 * Does one piece of a job: [start, end), at least 1 byte, of the mapped source. It is
 * called once for each min_chunk of the job; only the last piece of a range is smaller.
 * If it fails it must first restore what it has changed in this piece.
 *
 * arg: the job's argument "data", terminated by a NUL, or NULL if there is none.
 *
 * Only [start, end) is mapped there, in whole pages. An access beyond it ends the
 * worker by a signal, so the job fails and nothing else does.
 */
typedef int (*ktask_thread_func)(void *start, void *end, void *arg);

/* Takes back a piece that was done. It cannot fail. */
typedef void (*ktask_undo_func)(void *start, void *end, void *arg);

#endif
