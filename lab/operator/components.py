"""What a control plane consists of, in the order in which it is installed."""

from __future__ import annotations

from collections.abc import Callable

from lab.operator import addons, gateways, istiod
from lab.operator.plane import ControlPlane, Rendered, has_wasm_cacher

Template = Callable[[ControlPlane], list[Rendered]]


def stages(plane: ControlPlane) -> list[dict[str, Template]]:
    """Component name -> template, stage by stage; a stage begins when the one before it is ready."""
    wanted = addons.enabled(plane)

    def chosen(**templates: Template) -> dict[str, Template]:
        return {name: template for name, template in templates.items() if name in wanted}

    order: list[dict[str, Template]] = [
        {"istio-discovery": istiod.discovery},
        {"mesh-config": istiod.mesh_config},
        {"telemetry-common": istiod.telemetry_common, **chosen(prometheus=addons.prometheus)},
        {
            **chosen(tracing=addons.jaeger),
            "istio-ingress": gateways.ingress,
            "istio-egress": gateways.egress,
            **chosen(grafana=addons.grafana),
        },
        chosen(kiali=addons.kiali),
        {"wasm-extensions": istiod.wasm_extensions} if has_wasm_cacher(plane) else {},
    ]
    return [stage for stage in order if stage]
