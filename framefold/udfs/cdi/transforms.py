"""The factors that algorithms are made of: transforms, modulus and support projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from framefold.errors import DataError
from framefold.udfcore.namespace import xp_of
from framefold.udfs.cdi.algebra import Operator, product
from framefold.udfs.cdi.engine import engine_for
from framefold.udfs.cdi.reference import impose_amplitude
from framefold.udfs.cdi.state import CDI


@dataclass(frozen=True, repr=False)
class FT(Operator):
    """Unitary Fourier transform of the object; the origin of frequencies at index 0."""

    inverse_of: ClassVar[Any] = None

    def apply(self, cdi: CDI) -> CDI:
        """Return the state in Fourier space."""
        obj, _ = cdi.parts
        wave = engine_for(cdi).forward(obj) * obj.size**-0.5
        return cdi.new(obj=wave, space="fourier")


@dataclass(frozen=True, repr=False)
class IFT(Operator):
    """Unitary back transform: undoes `FT`, and ``IFT() * FT()`` costs nothing."""

    inverse_of: ClassVar[Any] = FT

    def apply(self, cdi: CDI) -> CDI:
        """Return the state in object space."""
        wave = _wave(cdi, "IFT")
        return cdi.new(obj=engine_for(cdi).backward(wave) * wave.size**-0.5, space="object")


FT.inverse_of = IFT


@dataclass(frozen=True, repr=False)
class ApplyAmplitude(Operator):
    """Give the measured pixels of a transform their amplitude; phases, and other pixels, stay."""

    def apply(self, cdi: CDI) -> CDI:
        """Return the state with measured amplitudes."""
        wave = _wave(cdi, "ApplyAmplitude")
        return cdi.new(obj=impose_amplitude(xp_of(wave), wave, cdi.data.amplitude, cdi.data.code, 1.0))


@dataclass(frozen=True, repr=False)
class ERProj(Operator):
    """The projection P_s: the object within its support, with `positivity` its real part not below 0."""

    positivity: bool = False

    def apply(self, cdi: CDI) -> CDI:
        """Return the projected state."""
        found = cdi.solution
        if self.positivity:
            found = xp_of(found).where(found.real < 0, 1j * found.imag, found).astype(found.dtype)
        return cdi.new(obj=found)


#: The projection P_m on the measured modulus.
FourierApplyAmplitude = product(IFT(), ApplyAmplitude(), FT())


def _wave(cdi: CDI, name: str) -> Any:
    if cdi.space != "fourier":
        raise DataError(f"{name} acts in Fourier space, the state is in object space: apply FT() first")
    return cdi.obj
