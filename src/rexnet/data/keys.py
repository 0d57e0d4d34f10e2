"""Randomness without state: every random number follows from a key, which is computed from the place of its use."""

MASK = (1 << 64) - 1


def mix(*parts: int) -> int:
    """Mixes integers such as (seed, epoch, position) into a 64-bit key; different integers give unrelated keys.

    Applies the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) to one integer after the other.
    """
    key = 0x9E3779B97F4A7C15
    for part in parts:
        key = (key ^ (part & MASK)) + 0x9E3779B97F4A7C15 & MASK
        key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 & MASK
        key = (key ^ key >> 27) * 0x94D049BB133111EB & MASK
        key ^= key >> 31
    return key
