"""Randomness without state: every random draw starts from a number computed from where it is used."""

MASK = (1 << 64) - 1


def mix(*parts: int) -> int:
    """A 64-bit key of integers, such as (seed, epoch, index): equal parts give equal keys, others unrelated ones.

    Splitmix64's finaliser over the parts in turn (Steele, Lea and Flood, OOPSLA 2014).
    """
    key = 0x9E3779B97F4A7C15
    for part in parts:
        key = (key ^ (part & MASK)) + 0x9E3779B97F4A7C15 & MASK
        key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 & MASK
        key = (key ^ key >> 27) * 0x94D049BB133111EB & MASK
        key ^= key >> 31
    return key
