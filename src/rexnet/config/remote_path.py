"""Data sets in object stores, as paths."""

from pathlib import Path, PosixPath

SCHEMES = ("s3", "gs", "az", "https", "http", "file")


class RemotePath(PosixPath):
    """A URL such as `s3://bucket/imagenet` with the interface of a path; nothing is looked up on this machine."""

    @property
    def scheme(self) -> str:
        """Returns the kind of store: `s3`, `gs`, `az`, `https`, `http` or `file`."""
        return super().__str__().partition(":")[0]

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Returns True: a store is asked only when it is read."""
        return True

    def __str__(self) -> str:
        scheme, _, rest = super().__str__().partition(":/")
        return f"{scheme}:///{rest}" if scheme == "file" else f"{scheme}://{rest}"


def parse_root(root: str | Path) -> Path:
    """Returns the root of a data set as a path, and that of one in an object store as a `RemotePath`."""
    if isinstance(root, Path):
        return root
    return RemotePath(root) if root.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)) else Path(root)
