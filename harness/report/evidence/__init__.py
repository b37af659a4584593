"""What both clusters have to say of one window of time, gathered into one directory; nothing secret, nothing changed.

    DIRECTORY/index.yaml            every file: what it is, mesh, bytes, whether it was cut, the times a log begins and
                                    ends at; what could not be read; `complete` says whether the gathering has ended
    DIRECTORY/diagnosis.yaml        the chain of links, as it was walked at the first failure and at later ones
    DIRECTORY/ledger.yaml           where probes went, and lines of those that failed
    DIRECTORY/<mesh>/objects/*.yaml specs and statuses; what istiod made of the federation in its memory (`configz`)
    DIRECTORY/<mesh>/events.yaml    events of both namespaces
    DIRECTORY/<mesh>/logs/*.log     istiod's lines of scope federation, access-log lines of the proxies on the path
    DIRECTORY/<mesh>/logs/<failed test>/*.log  access-log lines of a test that failed later, from its begin on
    DIRECTORY/<mesh>/proxies/*.json endpoints, routes and listeners of those proxies; filter chains of the federation
                                    ports, TLS towards the other services, and the certificates that are loaded

Secrets are never read, and all text goes through harness.run.redact.

gather      what is read, of both meshes at once
files       the directory: limit, index, what an earlier run left
logs        the newest part of a log
proxies     slices of an Envoy's configuration
istiod      what istiod keeps in memory
"""

from harness.report.evidence.evidence_files import INDEX, Entry, Index, discard
from harness.report.evidence.gather import collect, extend

__all__ = ["INDEX", "Entry", "Index", "collect", "discard", "extend"]
