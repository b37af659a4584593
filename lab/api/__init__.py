"""The Kubernetes API server of the lab: one process per cluster, objects in memory, JSON only.

From the request to the store: `server` (routes, users, faults) -> `calls.Call` -> `objects` (create, replace, patch,
apply; `deletion`) or `reads` (get, list, watch) or `streams` (logs, exec, port-forward, proxy) -> `store`.
`registry` knows the served kinds: `kinds` (built in) and `crds` (definitions). `schema.Node` is what merging, pruning,
defaulting (`schema`), validation (`validation`, `builtins`), patches (`patch`, `apply`) and ownership (`fieldsets`)
share.

Left out on purpose: protobuf, SPDY, OpenAPI v2, CEL, conversion webhooks, RBAC rules (restricted users have lists of
what is denied, or of all that is allowed: `POST /lab/users`), quotas, admission webhooks for Services in the
cluster (`clientConfig.url` only).
"""
