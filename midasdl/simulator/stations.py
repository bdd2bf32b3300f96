"""Stations that do not exist in counties that do: the places of a synthetic archive. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

_COUNTIES: dict[str, tuple[float, float]] = {
    "aberdeenshire": (57.2, -2.7),
    "angus": (56.7, -2.9),
    "antrim": (54.8, -6.2),
    "argyll-in-strathclyde-region": (56.2, -5.3),
    "berkshire": (51.4, -1.0),
    "cheshire": (53.2, -2.5),
    "cornwall": (50.4, -4.8),
    "cumberland": (54.7, -3.1),
    "derbyshire": (53.1, -1.6),
    "devon": (50.7, -3.8),
    "dorset": (50.8, -2.3),
    "down": (54.3, -5.9),
    "durham": (54.7, -1.8),
    "dyfed": (52.1, -4.5),
    "fermanagh": (54.4, -7.7),
    "greater-london": (51.5, -0.1),
    "gwynedd": (52.9, -3.9),
    "hampshire": (51.1, -1.3),
    "herefordshire": (52.1, -2.7),
    "inverness-shire": (57.2, -4.6),
    "isle-of-anglesey": (53.3, -4.4),
    "kent": (51.2, 0.7),
    "lancashire": (53.8, -2.6),
    "lincolnshire": (53.1, -0.2),
    "londonderry": (54.9, -6.9),
    "norfolk": (52.7, 1.0),
    "northumberland": (55.2, -2.0),
    "orkney": (59.0, -3.0),
    "oxfordshire": (51.8, -1.3),
    "peebleshire": (55.6, -3.3),
    "perthshire-in-tayside-region": (56.6, -3.8),
    "powys-north": (52.6, -3.4),
    "shetland": (60.3, -1.2),
    "shropshire": (52.6, -2.7),
    "somerset": (51.1, -3.0),
    "suffolk": (52.2, 1.0),
    "sutherland": (58.2, -4.5),
    "tyrone": (54.6, -7.2),
    "western-isles": (57.8, -7.0),
    "westmorland": (54.5, -2.7),
}
_HEADS = (
    "alder ash beck birch black bran brook burn cold crag dun east elm fair fern fox glen gorse green hart "
    "hazel heath high holm ivy kirk lark linn long marsh mill moss north oak otter penny raven red rush stan "
    "thorn upper wald west whin winter wood"
)
_TAILS = (
    "bourne bridge bury by combe cote dale den don field fold ford gate ham haven hill holt hope hurst "
    "ing law leigh low mere mont mouth ness over port rigg side stead stoke thorpe ton wade well wick worth"
)
_PLACES = ("", "-park", "-airfield", "-reservoir", "-school", "-gardens", "-hall", "-mill", "-lodge", "-no-2")
_IDS = 61_001
_ID_STRIDE = 7_919


@dataclass(frozen=True, slots=True)
class Station:
    """One station: `src_id` has no leading zeros, `name` and `county` are slugs as in paths."""

    src_id: int
    name: str
    county: str
    latitude: float
    longitude: float
    elevation_m: int

    @property
    def label(self) -> str:
        """The station as it stands in paths: ``01381_twist``."""
        return f"{self.src_id:05}_{self.name}"


class Gazetteer:
    """An endless row of stations with distinct names and numbers; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        names = ("".join(parts) for parts in product(_HEADS.split(), _TAILS.split(), _PLACES))
        self._names = list(dict.fromkeys(names))
        chance = random.Random(f"stations {seed}")  # noqa: S311 - chance that can be repeated, not a secret
        chance.shuffle(self._names)
        self._first_id = chance.randrange(_IDS)
        self._counties = list(_COUNTIES)

    def station(self, index: int) -> Station:
        """Return one station; numbers repeat only after some 61,000."""
        chance = random.Random(f"station {self._seed} {index}")  # noqa: S311 - as above
        lap, position = divmod(index, len(self._names))
        county = chance.choice(self._counties)
        latitude, longitude = _COUNTIES[county]
        return Station(
            src_id=(self._first_id + index * _ID_STRIDE) % _IDS + 1,
            name=self._names[position] + (f"-{lap + 2}" if lap else ""),
            county=county,
            latitude=round(latitude + chance.uniform(-0.2, 0.2), 3),
            longitude=round(longitude + chance.uniform(-0.3, 0.3), 3),
            elevation_m=int(chance.expovariate(1 / 110)) + 1,
        )
