"""Invented names. No real species, aircraft or make: a rendered class must not pass for a photographed one."""

from __future__ import annotations

from collections.abc import Sequence

from suite.data.synthetic.parts import Parts

_BIRDS = (
    "Tamwick", "Ollow", "Brindlet", "Fenrook", "Quillin", "Marrowit", "Sedgel", "Dunnap", "Whisk", "Pellow",
    "Hollin", "Tressel", "Corrit", "Vanner", "Lindle", "Skerry", "Moorlet", "Eddick", "Harrup", "Bellow",
)  # fmt: skip
_PLANES = ("Aldera", "Borealis", "Cirro", "Dovetail", "Elan", "Fjord")
_MAKES = ("Arvo", "Bexley", "Cordan", "Delmar", "Estro", "Fennec", "Gantry", "Helix")
_BODIES = {"sedan": "Sedan", "coupe": "Coupe", "wagon": "Wagon", "pickup": "Crew Cab"}
_BIRD_WORDS = {
    "square": "Square tailed", "forked": "Fork tailed", "fan": "Fan tailed", "needle": "Needle tailed",
}  # fmt: skip


def bird_names(class_parts: Sequence[Parts], skip: int = 0) -> list[str]:
    """One name per species, such as 'Fork tailed Tamwick'; `skip` species came before these."""
    names: list[str] = []
    for k, look in enumerate(class_parts, skip):
        round_, position = divmod(k, len(_BIRDS))
        names.append(f"{_BIRD_WORDS[look['tail']]} {_BIRDS[position]}{('', 'bird', 'finch', 'wren')[round_ % 4]}")
    return names


def bird_family(name: str) -> str:
    """The inner node of the hierarchy that a species hangs from: its tail, as good an order as any."""
    return f"{name.rsplit(' ', 1)[0]} birds"


def aircraft_names(class_parts: Sequence[Parts]) -> list[str]:
    """One variant per look, with a space as most official ones have: 'Aldera 100'."""
    return [f"{_PLANES[k % len(_PLANES)]} {100 * (1 + k // len(_PLANES))}" for k in range(len(class_parts))]


def aircraft_family(name: str) -> str:
    """The family of a variant."""
    return name.split(" ", maxsplit=1)[0]


def car_names(class_parts: Sequence[Parts]) -> list[str]:
    """One model per look in the official form make, model, body, year: 'Arvo K1 Sedan 2012'."""
    return [
        f"{_MAKES[k % len(_MAKES)]} K{1 + k // len(_MAKES)} {_BODIES[look['roof']]} 2012"
        for k, look in enumerate(class_parts)
    ]
