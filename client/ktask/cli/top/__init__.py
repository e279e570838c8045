"""`ktask top`: the daemon, its CPUs and its jobs on a whole screen, as they change.

`model` is a pure reducer: a frozen state and an event give the next state, and perhaps an action. Events
are messages of the one `WatchStatus` stream, keys, sizes of the terminal, and results of actions. `rates`
computes rates and times left from the last messages, `screen` and `jobs` turn a state into lines of text of
any width, and `keys` reads bytes as names of keys. `terminal` and `application` do the rest: the modes of
the terminal, the signals, and the threads that wait for the daemon. Only the newest message is kept, so a
terminal that takes no output holds nothing up and fills no memory.
"""
