"""Pod statuses in the form a kubelet writes them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from lab.client import Object


def now() -> str:
    """Time of statuses: UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass
class ContainerState:
    """What the node knows of one container; `state` and `last` as in containerStatuses."""

    name: str
    image: str
    state: dict[str, Any] = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: dict[str, Any] = field(default_factory=dict)
    ready: bool = False
    restarts: int = 0

    @property
    def running(self) -> bool:
        return "running" in self.state

    def waiting(self, reason: str, message: str | None = None) -> None:
        self.ready = False
        self.state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}

    def as_status(self, uid: str) -> Object:
        identity = f"lab://{uid}/{self.name}/{self.restarts}"
        return {
            "name": self.name,
            "image": self.image,
            "imageID": self.image,
            "containerID": identity if self.running or "terminated" in self.state else "",
            "ready": self.ready,
            "started": self.running,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
        }


def phase_of(states: list[ContainerState], restart_policy: str) -> str:
    """Phase of a pod with these containers."""
    if all("terminated" in state.state for state in states) and restart_policy != "Always":
        codes = [state.state["terminated"]["exitCode"] for state in states]
        if restart_policy == "Never" or not any(codes):
            return "Failed" if any(codes) else "Succeeded"
    started = any(state.running or state.restarts or "terminated" in state.state for state in states)
    return "Running" if started else "Pending"


class StatusBuilder:
    """Builds the status of one pod; remembers since when each condition is as it is."""

    def __init__(self, pod: Object, pod_ip: str, node_ip: str) -> None:
        self._pod, self._pod_ip, self._node_ip = pod, pod_ip, node_ip
        self._start = now()
        self._since: dict[str, tuple[str, str]] = {}

    def _condition(self, kind: str, status: bool, reason: str | None = None, message: str = "") -> Object:
        text = "True" if status else "False"
        known = self._since.get(kind)
        if known is None or known[0] != text:
            known = self._since[kind] = (text, now())
        condition: Object = {"type": kind, "status": text, "lastProbeTime": None, "lastTransitionTime": known[1]}
        if reason and not status:
            condition |= {"reason": reason, "message": message}
        return condition

    def build(self, states: list[ContainerState]) -> Object:
        """The status for these containers."""
        spec, uid = self._pod["spec"], self._pod["metadata"]["uid"]
        phase = phase_of(states, spec.get("restartPolicy", "Always"))
        unready = [state.name for state in states if not state.ready]
        missing = f"containers with unready status: [{' '.join(unready)}]"
        reason = "PodCompleted" if phase == "Succeeded" else "ContainersNotReady"
        status: Object = {
            "phase": phase,
            "conditions": [
                self._condition("Initialized", True),
                self._condition("Ready", not unready, reason, missing),
                self._condition("ContainersReady", not unready, reason, missing),
                self._condition("PodScheduled", True),
            ],
            "hostIP": self._node_ip,
            "podIP": self._pod_ip,
            "podIPs": [{"ip": self._pod_ip}],
            "startTime": self._start,
            "qosClass": "Burstable",
            "containerStatuses": [state.as_status(uid) for state in sorted(states, key=lambda state: state.name)],
        }
        if inits := spec.get("initContainers"):
            done = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": self._start}}
            done["terminated"]["finishedAt"] = self._start
            status["initContainerStatuses"] = [
                {"name": init["name"], "image": init.get("image", ""), "imageID": "", "ready": True}
                | {"restartCount": 0, "state": done, "lastState": {}}
                for init in inits
            ]
        return status
