"""A Hugging Face Hub of models in the test's own process, for the real client to talk to over HTTP.

    with HubServer() as hub:
        hub.add_user("alice", token="hf_alice", organisations=("otcache",))
        HfApi(endpoint=hub.endpoint, token="hf_alice").create_repo("otcache/example")

`HubServer` says what tests may do with it, `Fault` how it may misbehave. A client in another
process gets `environment(hub, home)`; before the client is used in the test's process,
`isolate_client` takes it away from the machine's tokens, caches and network.
"""

from __future__ import annotations

from hub_server.clients import environment, isolate_client
from hub_server.faults import Fault, Faults
from hub_server.messages import Request
from hub_server.repositories import Commit, PullRequest
from hub_server.server import HubServer

__all__ = [
    "Commit",
    "Fault",
    "Faults",
    "HubServer",
    "PullRequest",
    "Request",
    "environment",
    "isolate_client",
]
