"""Data sets in object stores, as paths."""

from pathlib import Path, PosixPath

SCHEMES = ("s3://", "gs://", "az://", "https://", "http://", "file://")


class RemotePath(PosixPath):
    """A URL such as `s3://bucket/imagenet` with the interface of a path; nothing is looked up on this machine."""

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Returns True: a store is asked only when it is read."""
        return True

    def __str__(self) -> str:
        scheme, _, rest = super().__str__().partition(":/")
        return f"{scheme}:///{rest}" if scheme == "file" else f"{scheme}://{rest}"


def parse_root(root: str | Path) -> Path:
    """Returns the root of a data set as a path, and that of one in an object store as a `RemotePath`."""
    return RemotePath(root) if str(root).startswith(SCHEMES) else Path(root)
