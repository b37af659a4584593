"""The lab's istiod: one process per pod, `python -m lab.istiod`.

state       the objects of the mesh, kept current, and what federation adds
registry    Kubernetes Services as services of the mesh
store       one consistent view of all that, with lookups
config      Envoy configuration made from the view
xds         gives it to the proxies; ca issues their certificates
debug       readiness, /debug pages and metrics
federation  ServiceMeshPeers, exports and imports
"""
