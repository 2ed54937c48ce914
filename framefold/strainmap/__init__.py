"""From a dataset to a strain map in one call, and what can be done with the map afterwards."""

from framefold.strainmap.make import map_of, strain_map
from framefold.strainmap.reference import region
from framefold.strainmap.value import StrainMap

__all__ = ["StrainMap", "map_of", "region", "strain_map"]
