"""Pure functions on arrays for ptychography: loops in numba, plain twins in numpy, plans of FFTW."""
