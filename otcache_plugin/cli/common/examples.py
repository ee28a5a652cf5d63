"""Command lines to copy, shown at the end of every `--help`."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("otcache demo", "otcache demo --output report.html"),
    "try": (
        'otcache try embedded --prompt "red circle left on navy"',
        'otcache try ORG/MODEL --prompt "a boat" --calibrate quick',
    ),
    "compare": (
        "otcache compare embedded --budgets 8,10,15",
        "otcache compare ORG/MODEL --methods otcache,uniform",
    ),
    "calibrate": (
        "otcache calibrate embedded --output ./my-policy",
        "otcache calibrate ORG/MODEL --dry-run --output ./my-policy",
        "otcache calibrate ORG/MODEL --effort quick --output ./mine",
    ),
    "merge": ("otcache merge ./my-policy",),
    "import": ("otcache import steps.json --model ORG/MODEL",),
    "search": ("otcache search Qwen/Qwen-Image",),
    "list": ("otcache list", "otcache list --hub --json"),
    "show": (
        "otcache show bundled:embedded",
        "otcache show bundled:qwen-image --budget 12",
    ),
    "predict": (
        "otcache predict bundled:z-image --budget 15",
        "otcache predict bundled:z-image --budget 15 --format mask",
    ),
    "verify": (
        "otcache verify bundled:exact-flow",
        "otcache verify ./my-policy --replay 16",
    ),
    "pull": ("otcache pull user/name", "otcache pull user/name@v1"),
    "push": (
        "otcache push ./my-policy",
        "otcache push ./my-policy --repo user/name --tag v1",
    ),
    "plugins": ("otcache plugins", "otcache plugins otcache"),
    "doctor": ("otcache doctor", "otcache doctor ORG/MODEL"),
    "store list": ("otcache store list",),
    "store add": ("otcache store add ./my-policy",),
    "store remove": ("otcache store remove hub:user/name",),
    "store prune": ("otcache store prune",),
    "store path": ("otcache store path",),
}
"""By the command's words."""
