"""What differs between the operator's releases 2.1 to 2.6."""

from __future__ import annotations

from dataclasses import dataclass

_MINORS = ("v2.1", "v2.2", "v2.3", "v2.4", "v2.5", "v2.6")

# The last chart of each control plane version known when the newer operators shipped it.
_CHARTS = {
    "v2.0": "2.0.11",
    "v2.1": "2.1.6",
    "v2.2": "2.2.13",
    "v2.3": "2.3.11",
    "v2.4": "2.4.7",
    "v2.5": "2.5.1",
    "v2.6": "2.6.14",
}

# operator minor -> (versions it knows, the oldest it accepts)
_SUPPORTED = {
    "v2.1": (("v1.0", "v1.1", "v2.0", "v2.1"), "v1.0"),
    "v2.2": (("v1.1", "v2.0", "v2.1", "v2.2"), "v1.1"),
    "v2.3": (("v1.1", "v2.0", "v2.1", "v2.2", "v2.3"), "v2.0"),
    "v2.4": (("v1.1", "v2.0", "v2.1", "v2.2", "v2.3", "v2.4"), "v2.1"),
    "v2.5": (("v1.1", "v2.0", "v2.1", "v2.2", "v2.3", "v2.4", "v2.5"), "v2.2"),
    "v2.6": (("v1.1", "v2.0", "v2.1", "v2.2", "v2.3", "v2.4", "v2.5", "v2.6"), "v2.4"),
}


def at_least(version: str, minimum: str) -> bool:
    """Whether `v2.4` is `v2.3` or newer."""
    return _numbers(version) >= _numbers(minimum)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.removeprefix("v").split("."))


@dataclass(frozen=True)
class Release:
    """One operator release, such as 2.1.6; versions of control planes are written `v2.1`."""

    version: str

    @property
    def minor(self) -> str:
        return "v" + ".".join(self.version.split(".")[:2])

    @property
    def newest(self) -> str:
        """The version a control plane gets that asks for none."""
        return self.minor

    @property
    def known(self) -> tuple[str, ...]:
        return _SUPPORTED.get(self.minor, _SUPPORTED[_MINORS[-1]])[0]

    @property
    def accepted(self) -> tuple[str, ...]:
        oldest = _SUPPORTED.get(self.minor, _SUPPORTED[_MINORS[-1]])[1]
        return tuple(version for version in self.known if at_least(version, oldest))

    @property
    def roll_waits_for_control_plane(self) -> bool:
        """Only in 2.1 a Ready member roll means that the control plane is installed."""
        return self.minor == "v2.1"

    @property
    def marks_namespace_ignored(self) -> bool:
        """Before 2.4 the control plane's namespace is labelled maistra.io/ignore-namespace."""
        return not at_least(self.minor, "v2.4")

    def chart(self, version: str) -> str:
        """The chart version installed for a control plane version; that of the operator for its own."""
        return self.version if version == self.minor else _CHARTS.get(version, self.version)


def has_wasm_cacher(version: str) -> bool:
    """2.1 and 2.2 install wasm-extensions; the chart is gone from 2.3 on."""
    return not at_least(version, "v2.3")


def istiod_service_account(version: str, name: str) -> str:
    return f"istiod-{name}" if at_least(version, "v2.2") else f"istiod-service-account-{name}"


def makes_routes_by_default(version: str) -> bool:
    """Whether routes of user Gateways (IOR) are made where the control plane does not say; not so from 2.5 on."""
    return not at_least(version, "v2.5")
