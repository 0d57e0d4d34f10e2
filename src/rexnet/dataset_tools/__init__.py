"""Tools that inspect or prepare a data set: check, split, preview and loader speed."""
