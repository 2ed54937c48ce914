"""Bragg disks: where they are, the lattice they lie on, and the strain that follows."""
