"""
From a diffraction pattern to the object
========================================

Coherent diffraction imaging with operators that multiply as in a formula: recipes, many starts, and how far
to trust what they agree on.
"""

import matplotlib.pyplot as plt
import numpy as np

import framefold as ff
from framefold.plot.cdi import draw_object, draw_pattern, multistart_figure
from framefold.sim.coherent import coherent_pattern
from framefold.udfs import cdi
from framefold.udfs.cdi.align import align

# %%
# A particle, 10 million photons, a beam stop over the middle.
pattern = coherent_pattern((96, 96), 0.3, photons=1e7, phase=2.0, beam_stop=3, seed=5)
data = cdi.CDI(pattern.iobs, mask=pattern.mask, pixel_size=8e-9)

# %%
# Operators act from right to left: fill the gap, take the first support from the autocorrelation, iterate
# and shrink it. A product is a value of its own: it prints, compares, and can be read from text.
iterate = cdi.SupportUpdate() * cdi.ER() ** 50 * cdi.HIO() ** 200
recipe = cdi.ER() ** 100 * iterate**5 * cdi.AutoCorrelationSupport() * cdi.InterpMask()
print(recipe)
assert cdi.parse(str(recipe)) == recipe

# %%
# One start, looked at on the way.
seen = []
cdi.run(recipe, data, on_step=lambda state: seen.append(cdi.LLK() * state), every=200)
fig, axes = plt.subplots(1, 4, figsize=(15, 3.8), layout="constrained")
draw_pattern(axes[0], data)
for ax, state in zip(axes[1:], (seen[0], seen[4], seen[-1]), strict=True):
    error = state.history[-1][1]["error"]
    draw_object(ax, state, f"iteration {state.cycle}, error {error:.3f}")

# %%
# Single starts stop at different places. Ten of them, on all cores; 5 % of the pixels are held out as judges.
ctx = ff.Context()
found = cdi.multistart(data, recipe, n=10, keep=5, run_tasks=ctx.run_tasks)
multistart_figure(found, plt.figure)
print(f"the best {len(found.solutions)} share {100 * found.weights[0]:.1f} %")

# %%
# The first eigenmode against the truth, which only a simulation knows.
placed = align(found.best.solution, pattern.obj)
difference = np.linalg.norm(placed.obj - pattern.obj) / np.linalg.norm(pattern.obj)
print(f"twin image: {placed.twin}, relative difference {difference:.3f}")
