"""Envoy configuration, made from a `lab.istiod.store.Mesh` for one `Proxy`: plain functions, nothing kept.

clusters       what a proxy may call, with endpoints and mutual TLS
routes         HTTP, from VirtualServices and services
listeners      of sidecars; gateways has those of gateways
authorization  AuthorizationPolicies as RBAC filters
blocks         the parts all of these are made of
"""
