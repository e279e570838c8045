"""Files filled with a byte, beside dd."""

from __future__ import annotations

from tests.verbs.model import Case

OLD = "seq 1000 > old; chmod 640 old"


def zeros(title: str, dd: str, ours: str, given: str = OLD) -> Case:
    """Zeros by dd, and by ktask fill."""
    return Case(title, f"dd if=/dev/zero status=none conv=notrunc {dd}", f"ktask fill {ours}", given)


CASES = [
    zeros("a new file", "bs=1M count=3 of=new && stat -c %b new", "-s 3M new && stat -c %b new"),
    zeros("a new file of odd length", "bs=1 count=5001 of=new", "-s 5001 new"),
    zeros("with another umask", "bs=1K count=1 of=new", "-s 1K new", "umask 077"),
    zeros("the begin of a file", "bs=1K count=1 of=old", "-s 1K old"),
    zeros("the middle of a file", "bs=100 count=3 seek=7 of=old", "-o 700 -s 300 old"),
    zeros("beyond the end of a file", "bs=1K count=8 seek=3 of=old", "-o 3K -s 8K old"),
    zeros("nothing", "bs=1K count=0 of=old", "-s 0 old"),
    zeros("a file in a missing directory", "bs=1K count=1 of=no/new", "-s 1K no/new"),
    zeros("a directory", "bs=1K count=1 of=.", "-s 1K ."),
    Case(
        "all of a file", "head -c $(stat -c %s old) /dev/zero > n; cat n > old; rm n", "ktask fill old", OLD
    ),
    Case("another byte", "head -c 9K /dev/zero | tr '\\0' '\\377' > new", "ktask fill -s 9K -b 0xff new"),
    Case("two files", "for i in a b; do head -c 10 /dev/zero > $i; done", "ktask fill -s 10 a b"),
    Case("a missing file without a size", "dd if=/dev/zero of=no/x count=0 status=none", "ktask fill new"),
    Case("no words", "dd --nosuch", "ktask fill"),
    Case("a bad size", "dd if=/dev/zero of=new bs=1X count=1 status=none", "ktask fill -s 1X new"),
    Case("a bad byte", "dd if=/dev/zero of=new bs=1X count=1 status=none", "ktask fill -s 1 -b 256 new"),
]
