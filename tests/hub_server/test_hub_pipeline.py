"""diffusers loads a pipeline from the test server, and its parts know the commit they are of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tiny_pipelines
from huggingface_hub import HfApi

from hub_server import HubServer, environment


@pytest.mark.slow
def test_pipeline_from_the_hub_in_another_process(hub: HubServer, tmp_path: Path) -> None:
    tiny_pipelines.make_flux().save_pretrained(tmp_path / "pipeline")
    hub.upload_mode = "lfs"
    hub.create_repo("org/flux", private=True)
    hub.add_user("carol", token="hf_carol", organisations=("org",))
    sha = hub.commit_folder("org/flux", tmp_path / "pipeline")
    hub.commit("org/flux", {"later": b""})
    program = (
        "import sys; from diffusers import DiffusionPipeline\n"
        "absent = ('vae', 'text_encoder', 'text_encoder_2', 'tokenizer', 'tokenizer_2')\n"
        "pipe = DiffusionPipeline.from_pretrained(\n"
        "    'org/flux', revision=sys.argv[1], **dict.fromkeys(absent))\n"
        "print(type(pipe).__name__, pipe.transformer.config._name_or_path)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, sha],
        env=environment(hub, tmp_path / "other-home", token="hf_carol"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name, path = done.stdout.split()
    assert name == "FluxPipeline"
    home = tmp_path / "other-home"
    assert path == str(home / "hub/models--org--flux/snapshots" / sha / "transformer")
    info = HfApi(endpoint=hub.endpoint, token="hf_carol").model_info("org/flux")
    assert info.config == {"diffusers": {"_class_name": "FluxPipeline"}}
    assert {"diffusers", "safetensors", "diffusers:FluxPipeline"} <= set(info.tags or [])
    assert {request.status for request in hub.requests} <= {200, 302}
