"""The thread functions. Declarations are kept apart from bodies.

* `declared`: the declarations by subject, and `catalogue`, which lists them. Neither imports a
  body, so the daemon can load them.
* `archives`, `arrays`, `checksums`, `files`, `memory`, `own`, `text`, `selftest`: the bodies, by
  the same subjects. Workers load them through `bodies`, which finds the body of a name.
* `body`: the base class of bodies and what they are given. The other base modules are shared:
  sizes and buffers (`quanta`), which way is faster (`choosing`), spans (`spans`), reading and writing
  in full (`transfer`), reading in quanta (`reading`), writing with an undo (`restoring`), errors
  (`failures`), items that change (`steady`).
* `plugins`: functions of installed packages and of an administrator's libraries.
"""
