"""Tools that inspect or prepare a data set: check, split and preview."""
