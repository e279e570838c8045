/*
 * What a native function of ktaskd looks like: ktask's thread function and undo.
 *
 * A manifest in /etc/ktaskd/functions.d names the library and the symbols. The daemon
 * never loads the library; workers do, at the lowest priority, many at one time, each
 * in a process of its own.
 */
#ifndef KTASK_FUNCTION_H
#define KTASK_FUNCTION_H

/* Done. Anything else ends the job; an errno, or its negative, is told in words. */
#define KTASK_RETURN_SUCCESS 0

/*
 * Does one piece of a job: [start, end), at least 1 byte, of the mapped source. It is
 * called once for each min_chunk of the job; only the last piece of a range is smaller.
 * Where it fails it puts back itself what it has changed in this piece.
 *
 * arg: the job's argument "data" with a NUL behind it, or NULL where none was given.
 *
 * Nothing but [start, end) is mapped there, in whole pages: who reaches beyond it is
 * ended by a signal, which costs the job but nobody else.
 */
typedef int (*ktask_thread_func)(void *start, void *end, void *arg);

/* Takes a piece that was done back. It cannot fail. */
typedef void (*ktask_undo_func)(void *start, void *end, void *arg);

#endif
