"""Names the modules of fixtures and hooks; nothing else."""

pytest_plugins = [
    "fixtures.hooks.options",
    "fixtures.hooks.applicable",
    "fixtures.hooks.terminal",
    "fixtures.hooks.redaction",
    "fixtures.hooks.report",
    "fixtures.hooks.unrun",
    "fixtures.hooks.preflight",
    "fixtures.hooks.run",
    "fixtures.run",
    "fixtures.clusters",
    "fixtures.ownership",
    "fixtures.meshes",
    "fixtures.federation",
    "fixtures.bookinfo",
    "fixtures.peering",
    "fixtures.traffic",
    "fixtures.diagnosis",
    "fixtures.hooks.evidence",
    "fixtures.hooks.ending",
]
