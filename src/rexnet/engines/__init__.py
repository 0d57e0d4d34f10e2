"""Launchers other than torchrun and srun that start the processes of a run; each is an extra of the package."""
