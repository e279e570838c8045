"""Cases of `ktask sum` beside sha256sum, b3sum and cksum."""

from __future__ import annotations

from tests.verbs.model import Case

_ODD = r"""printf a > a; printf b > 'b\b'; printf c > "$(printf 'c\nd')"; printf d > "$(printf 'd\re')"
printf e > ' e'; printf f > "$(printf 'f\377')"; printf g > '(g) = 1'; : > empty
mkdir dir; printf h > dir/h"""
_LIST = "printf a > a; printf b > b; sha256sum a b > s; printf c > b"
_GOOD = "printf a > a; printf b > b; sha256sum a b > s"


def _same(title: str, words: str, given: str = _GOOD, program: str = "sha256sum") -> Case:
    """Both programs take the same words after their names."""
    return Case(title, f"{program} {words}", f"ktask sum {words}", given)


_TAGS = "the model knows only its own algorithm; the line names this one"

CASES = [
    _same("some files", "a b"),
    _same("odd names, and a directory among them", "*", _ODD),
    _same("odd names that are missing", r"'x\y' \( 'new\nline' a"),
    _same("bytes of no text in a name", "f*", _ODD),
    _same("tagged lines of odd names", "--tag *", _ODD),
    _same("zero bytes at line ends", "-z *", _ODD),
    _same("tagged lines with zero bytes", "--tag -z *", _ODD),
    _same("binary mark", "-b a b"),
    _same("text mark", "-t a b"),
    _same("tag and text", "--tag -t a"),
    _same("tag and binary", "--tag -b a"),
    _same("a name after --", "-- -x", "printf x > ./-x"),
    _same("names before and after --", "y -b -- -x -- --", "printf x > ./-x; printf y > y; printf z > ./--"),
    _same("the same file twice", "a a"),
    _same("a missing file does not stop the others", "a no b"),
    _same("an empty name", "'' a"),
    _same("a directory", "dir", _ODD),
    _same("no file: standard input", "< a"),
    _same("dash: standard input", "a - b < b"),
    Case("a pipe", "sha256sum <seq", "ktask sum <seq", "seq 100000 > seq"),
    Case(
        "a stream from a pipe",
        "sha256sum - >out; seq 9 | sha256sum",
        "ktask sum - >out; seq 9 | ktask sum",
    ),
    _same("a fifo", "p & printf a > p; wait", "mkfifo p"),
    _same("a device", "/dev/null"),
    _same("a file of /proc, which has no length", "/proc/version /proc/sys/kernel/ostype"),
    _same("a file of /sys, whose length is not true", "/sys/kernel/mm/transparent_hugepage/enabled"),
    _same("a file with a hole", "h", "truncate -s 3M h"),
    _same("many files", "*", "for i in $(seq 700); do echo $i > $i; done"),
    _same("an option that there is not", "--foo a"),
    _same("quiet without check", "--quiet a"),
    _same("status without check", "--status a"),
    _same("strict without check", "--strict a"),
    _same("warn without check", "-w a"),
    _same("ignore-missing without check", "--ignore-missing a"),
    _same("check with tag", "-c --tag s"),
    _same("check with zero", "-c -z s"),
    _same("check with binary", "-c -b s"),
    _same("check: all match", "-c s"),
    _same("check: one does not match", "-c s", _LIST),
    _same("check quietly", "-c --quiet s", _LIST),
    _same("check by status", "-c --status s", _LIST),
    _same("check by status: all match", "-c --status s"),
    _same("check a list from standard input", "-c < s", _LIST),
    _same("check a list named dash", "-c - < s", _LIST),
    _same("check several lists", "-c s no s", _LIST),
    _same("check: a listed file is missing", "-c s", f"{_GOOD}; rm a"),
    _same("check: a listed file is missing, by status", "-c --status s", f"{_GOOD}; rm a"),
    _same("check: ignore missing files", "-c --ignore-missing s", f"{_GOOD}; rm a"),
    _same("check: ignore missing files, all are missing", "-c --ignore-missing s", f"{_GOOD}; rm a b"),
    _same("check: a directory is listed", "-c s", f"{_GOOD}; rm a; mkdir a"),
    _same("check: the list is a directory", "-c d", "mkdir d"),
    _same("check: a list without any line", "-c a"),
    _same("check: an empty list", "-c /dev/null"),
    _same("check: foreign lines", "-c s", f"{_GOOD}; echo foo >> s; echo '# foo' >> s; echo >> s"),
    _same("check: foreign lines reported", "-c -w s", f"{_GOOD}; echo foo >> s"),
    _same("check: foreign lines strictly", "-c --strict s", f"{_GOOD}; echo foo >> s"),
    _same("check: strictly, all well", "-c --strict s"),
    _same("check: DOS line ends", "-c s", f"{_GOOD}; sed -i 's/$/\\r/' s"),
    _same("check: upper-case digits", "-c s", f"{_GOOD}; sed -i 's/^[0-9a-f]*/\\U&/' s"),
    _same("check: blanks before lines", "-c s", f"{_GOOD}; sed -i 's/^/ \\t/' s"),
    _same("check: a digit too few", "-c s", f"{_GOOD}; sed -i '1s/^.//' s"),
    _same("check: no line end at the end", "-c s", f"{_GOOD}; truncate -s -1 s"),
    _same("check: lines of BSD with one blank", "-c s", f"{_GOOD}; sed -i 's/  / /' s"),
    _same("check: forms mixed", "-c s", f"{_GOOD}; sed -i '2s/  / /' s"),
    _same(
        "check: forms mixed, and the rest would be a name",
        "-c s",
        f"{_GOOD}; cp a xb; sha256sum xb | sed 's/  / /' >> s",
    ),
    _same("check: tagged lines", "-c s", f"{_GOOD}; sha256sum --tag a b > s"),
    _same("check: tagged lines with little space", "-c s", f"{_GOOD}; sha256sum --tag a | tr -d ' ' > s"),
    _same("check: odd names", "-c s", f"{_ODD}\nsha256sum *a* *b* *c* *d* *e* *f* *g* > s || :"),
    _same(
        "check: odd names that do not match",
        "-c s",
        f"{_ODD}\nsha256sum [bcd]?* > s || :; sed -i 's/[0-9a-f]/0/' s",
    ),
    _same("check: an escape that there is not", "-c s", f"{_GOOD}; sed -i '1s/^/\\\\/;1s/a$/\\\\a/' s"),
    _same("check: dash in a list from a pipe", "-c < s", f"{_GOOD}; sed -i '1s/a$/-/' s"),
    Case("cksum's sha256", "cksum -a sha256 a b", "ktask sum -a sha256 --tag a b", _GOOD),
    Case("cksum's sha256, untagged", "cksum -a sha256 --untagged a", "ktask sum -a sha256 a", _GOOD),
    Case("SHA-512", "sha512sum a b - < a", "ktask sum -a sha512 a b - < a", _GOOD),
    Case("SHA-512, BSD", "sha512sum --tag a b", "ktask sum -a sha512 --tag a b", _GOOD),
    Case("check SHA-512", "sha512sum -c s", "ktask sum -a sha512 -c s", "printf a > a; sha512sum a > s"),
    Case("check SHA-512 by its digits", "sha512sum -c s", "ktask sum -c s", "printf a > a; sha512sum a > s"),
    Case("BLAKE3", "b3sum a b - < a", "ktask sum -a blake3 a b - < a", _GOOD),
    Case(
        "check BLAKE3 that nothing names",
        "b3sum -c s",
        "ktask sum -c s",
        "printf a > a; printf b > b; b3sum a b > s",
    ),
    Case(
        "check lines of two algorithms that nothing names",
        "sha256sum -c s",
        "ktask sum -c t",
        "printf a > a; printf b > b; printf c > c; sha256sum a b c > s; (b3sum a; sha256sum b; b3sum c) > t",
    ),
    Case("check BLAKE3", "b3sum -c s", "ktask sum -a blake3 -c s", "printf a > a; b3sum a > s"),
    Case(
        "check BLAKE3, wrong",
        "b3sum --quiet -c s",
        "ktask sum -a blake3 -qc s",
        "echo > a; b3sum a > s; printf b > a",
        differs="this b3sum counts what does not match nowhere, sha256sum on standard error",
    ),
    Case(
        "check a line that names BLAKE3",
        "sha256sum -c s",
        "ktask sum -c s",
        'printf a > a; echo "BLAKE3 (a) = $(b3sum --no-names a)" > s',
        differs=_TAGS,
    ),
    Case(
        "CRC-32",
        'python3 -c \'import zlib; print("%08x  a" % zlib.crc32(b"a"))\'',
        "ktask sum -a crc32 a",
        _GOOD,
    ),
    Case(
        "CRC-32C",
        'python3 -c \'import crc32c; print("CRC32C (a) = %08x" % crc32c.crc32c(b"a"))\'',
        "ktask sum -a crc32c --tag a",
        _GOOD,
    ),
    Case(
        "XXH3",
        'python3 -c \'import xxhash; print(xxhash.xxh3_64_hexdigest(b"a") + "  a")\'',
        "ktask sum -a xxh3 a",
        _GOOD,
    ),
    Case(
        "check lists of all algorithms",
        "printf 'n: OK\\nn: OK\\nn: OK\\nn: OK\\nn: OK\\n'",
        "for a in sha256 blake3 crc32 crc32c xxh3; do ktask sum -a $a --tag n; done | ktask sum -c",
        "echo > n",
    ),
    Case(
        "check untagged lines of a short checksum",
        "printf 'n: OK\\n'",
        "ktask sum -a xxh3 n | ktask sum -a xxh3 -c",
        "echo > n",
    ),
    Case(
        "a tree",
        "find d -type f -print0 | sort -z | xargs -0 sha256sum",
        "ktask sum -r d",
        "mkdir -p d/e; printf a > d/a; printf b > d/e/b; printf c > d/z; ln -s a d/l",
    ),
    Case(
        "check made lists with each other",
        "sha256sum -c s",
        "ktask sum -c s",
        "printf a > a; ktask sum a > s",
    ),
]
