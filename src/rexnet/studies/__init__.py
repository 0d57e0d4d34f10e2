"""The paper's studies, each repeated by one command, and sweeps over configuration keys."""
