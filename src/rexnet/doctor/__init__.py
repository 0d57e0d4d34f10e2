"""Looks at everything that a long run needs, before it begins: `rexnet doctor`."""
