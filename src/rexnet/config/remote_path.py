"""URLs of data sets in object stores, as paths."""

from pathlib import PosixPath
from typing import Any

SCHEMES = ("s3://", "gs://", "az://", "https://", "http://", "file://")


class RemotePath(PosixPath):
    """A URL such as `s3://bucket/imagenet` with the interface of a path; nothing is looked up on this machine."""

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Returns True, because a store is asked only when it is read."""
        return True

    def __str__(self) -> str:
        scheme, _, rest = super().__str__().partition(":/")
        return f"{scheme}:///{rest}" if scheme == "file" else f"{scheme}://{rest}"


def parse_url(root: Any) -> Any:
    """Returns the `RemotePath` of a URL of an object store, and anything else as it is."""
    return RemotePath(root) if isinstance(root, str) and root.startswith(SCHEMES) else root
