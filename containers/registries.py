"""Where AWS keeps the images of its algorithms: registry, repository and tag, by region.

The SageMaker SDK asks for them by these names, whether they come from there or lie on this machine.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["REGIONS", "algorithm_of", "uri", "versions"]

_FIRST_PARTY: Final = ("1", "latest")
"""Versions of the algorithms that AWS wrote itself, as of the first image of XGBoost."""

_XGBOOST: Final = ("3.2-0", "3.0-5", "1.7-1", "1.5-1", "1.3-1", "1.2-2", "1.2-1", "1.0-1", "0.90-2", "0.90-1")
"""Versions of the open XGBoost container. What they take and give is the same; clary trains with its own library."""

_TAGS: Final = MappingProxyType({word: f"{word}-cpu-py3" for word in ("1.0-1", "0.90-2", "0.90-1")})
"""Tags that are not just the version."""

_SUFFIXES: Final = MappingProxyType(
    {"cn": "amazonaws.com.cn", "us-iso": "c2s.ic.gov", "us-isob": "sc2s.sgov.gov", "us-isof": "csp.hci.ic.gov"}
)
"""Domain of the regions that begin so, where it is not amazonaws.com."""

_ACCOUNTS: Final[Mapping[str, tuple[str, str | None, str]]] = MappingProxyType(
    {
        "af-south-1": ("455444449433", "455444449433", "510948584623"),
        "ap-east-1": ("286214385809", "286214385809", "651117190479"),
        "ap-northeast-1": ("351501993468", "501404015308", "354813040037"),
        "ap-northeast-2": ("835164637446", "306986355934", "366743142698"),
        "ap-northeast-3": ("867004704886", "867004704886", "867004704886"),
        "ap-south-1": ("991648021394", "991648021394", "720646828776"),
        "ap-south-2": ("628508329040", "628508329040", "628508329040"),
        "ap-southeast-1": ("475088953585", "475088953585", "121021644041"),
        "ap-southeast-2": ("712309505854", "544295431143", "783357654285"),
        "ap-southeast-3": ("951798379941", "951798379941", "951798379941"),
        "ap-southeast-4": ("106583098589", "106583098589", "106583098589"),
        "ca-central-1": ("469771592824", "469771592824", "341280168497"),
        "ca-west-1": ("190319476487", None, "190319476487"),
        "cn-north-1": ("390948362332", "390948362332", "450853457545"),
        "cn-northwest-1": ("387376663083", "387376663083", "451049120500"),
        "eu-central-1": ("664544806723", "813361260812", "492215442770"),
        "eu-central-2": ("680994064768", "680994064768", "680994064768"),
        "eu-north-1": ("669576153137", "669576153137", "662702820516"),
        "eu-south-1": ("257386234256", "257386234256", "978288397137"),
        "eu-south-2": ("104374241257", "104374241257", "104374241257"),
        "eu-west-1": ("438346466558", "685385470294", "141502667606"),
        "eu-west-2": ("644912444149", "644912444149", "764974769150"),
        "eu-west-3": ("749696950732", "749696950732", "659782779980"),
        "il-central-1": ("898809789911", None, "898809789911"),
        "me-central-1": ("272398656194", "272398656194", "272398656194"),
        "me-south-1": ("249704162688", "249704162688", "801668240914"),
        "sa-east-1": ("855470959533", "855470959533", "737474898029"),
        "us-east-1": ("382416733822", "811284229777", "683313688378"),
        "us-east-2": ("404615174143", "825641698319", "257758044811"),
        "us-gov-east-1": ("237065988967", "237065988967", "237065988967"),
        "us-gov-west-1": ("226302683700", "226302683700", "414596584902"),
        "us-iso-east-1": ("490574956308", "490574956308", "833128469047"),
        "us-isob-east-1": ("765400339828", "765400339828", "281123927165"),
        "us-isof-east-1": ("108575199400", None, "108575199400"),
        "us-isof-south-1": ("124985052026", None, "124985052026"),
        "us-west-1": ("632365934929", "632365934929", "746614075791"),
        "us-west-2": ("174872318107", "433757028032", "246618743249"),
    }
)
"""Region → accounts of the algorithms that AWS wrote itself, of the first image of XGBoost and of the later ones."""

REGIONS: Final = tuple(_ACCOUNTS)
"""Every region that has registries of these algorithms."""


def versions(algorithm: str) -> tuple[str, ...]:
    """What AWS calls the versions of an algorithm; the image of all algorithms is none of AWS's.

    Examples
    --------
    >>> versions("kmeans")
    ('1', 'latest')
    """
    if algorithm == "all":
        return ("latest",)
    return (*_XGBOOST, *_FIRST_PARTY) if algorithm == "xgboost" else _FIRST_PARTY


def uri(algorithm: str, region: str, version: str) -> str | None:
    """The name of AWS's image in one of `REGIONS`; None where that region does not have the version.

    Examples
    --------
    >>> uri("kmeans", "us-east-1", "1")
    '382416733822.dkr.ecr.us-east-1.amazonaws.com/kmeans:1'
    """
    first_party, first_xgboost, xgboost = _ACCOUNTS[region]
    repository = algorithm
    account: str | None = first_party
    if algorithm == "xgboost":
        account = first_xgboost if version in _FIRST_PARTY else xgboost
        repository = "xgboost" if version in _FIRST_PARTY else "sagemaker-xgboost"
    suffix = _SUFFIXES.get(region.rsplit("-", 2)[0], "amazonaws.com")
    tag = _TAGS.get(version, version)
    return account and f"{account}.dkr.ecr.{region}.{suffix}/{repository}:{tag}"


_URI: Final = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.[a-z.]+/(?P<repository>[a-z0-9-]+)"
)
_OWN: Final = re.compile(r"clary/(?P<repository>[a-z0-9-]+)")


def algorithm_of(image: str) -> str | None:
    """The algorithm that an image is of, by its name alone: AWS's in any region, or ours; None for any other image.

    Examples
    --------
    >>> algorithm_of("683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1")
    'xgboost'
    >>> algorithm_of("clary/kmeans:latest")
    'kmeans'
    >>> algorithm_of("123456789012.dkr.ecr.us-east-1.amazonaws.com/kmeans:1") is None  # somebody's own
    True
    """
    from ..algorithms.registry import ALGORITHMS  # which needs numpy; this module runs where there is none

    name = re.sub(r"(:[\w.-]+)?(@sha256:[0-9a-f]+)?$", "", image)
    if found := _OWN.fullmatch(name):
        return found["repository"] if found["repository"] in ALGORITHMS else None
    found = _URI.fullmatch(name)
    if found is None or found["account"] not in _ACCOUNTS.get(found["region"], ()):
        return None
    algorithm = "xgboost" if found["repository"] == "sagemaker-xgboost" else found["repository"]
    return algorithm if algorithm in ALGORITHMS else None


if __name__ == "__main__":
    print(*versions(sys.argv[1]))
