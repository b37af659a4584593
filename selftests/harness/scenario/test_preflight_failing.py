"""Preflight on clusters that give no good answer: each problem is told once, and nothing is asked in vain."""

from __future__ import annotations

import base64

import pytest

from harness.scenario.preflight import blocking
from selftests.harness.scenario.test_preflight import OPERATOR, SERVICE_MESH, look, openshift_on_aws, text
from selftests.support.certificates import Authority, pem
from selftests.support.dead_api import DeadApi
from selftests.support.recorded_api import RecordedApi, refused

__all__ = ["look"]
PLANES = f"{SERVICE_MESH}/namespaces/mesh1-system/servicemeshcontrolplanes"


class Refusing(RecordedApi):
    """Answers alike whatever there is no answer for: /version is answered to anybody, and /apis without the storage."""

    def answer(self, method, path, body):
        found = super().answer(method, path, body)
        return found if path in self.answers else self.answers["all"]


def stranger():
    """An authority that signed nothing here, as kubeconfigs embed one."""
    return base64.b64encode(pem(Authority.make("stranger").root).encode()).decode()


def refusing(status, message):
    known = {"/version": {"gitVersion": "v1.27.3"}, "/apis": {"groups": []}}
    return Refusing({**known, "all": refused(status, message)})


@pytest.mark.parametrize(("status", "advice"), [(401, "Log in again"), (500, "500 no"), (429, "429 no")])
def test_a_cluster_that_refuses_everything_is_told_in_one_line_and_asked_no_more(look, status, advice):
    apis = [refusing(status, "no"), refusing(status, "no")]
    problems = blocking(look(*apis, patience=1.0))
    assert [problem[:6] for problem in problems] == ["mesh1:", "mesh2:"], problems
    assert all(advice in problem for problem in problems)
    for api in apis:
        assert set(api.asked) == {"GET /version", "GET /api/v1/namespaces/kube-system"}


@pytest.mark.parametrize("broken", [OPERATOR, PLANES])
def test_a_token_that_is_refused_in_the_midst_of_the_look_ends_it(look, broken):
    findings = look(RecordedApi(openshift_on_aws(**{broken: refused(401, "Unauthorized")})))
    (problem,) = blocking(findings)
    assert broken in problem
    assert findings[-1].blocking, "nothing was asked afterwards"


@pytest.mark.parametrize("answer", [refused(403, "deployments is forbidden"), refused(500, "etcd is on fire")])
def test_what_fails_on_one_path_alone_does_not_hide_the_rest(look, answer):
    changed = {"/apis/maistra.io/v2": answer}
    findings = look(RecordedApi(openshift_on_aws(**changed), lambda asked: asked["resource"] != "leases"), patience=1.0)
    problems = blocking(findings)
    assert sum(answer[1]["message"] in problem for problem in problems) == 1
    assert any("does not allow this user to get, create, patch, delete leases" in problem for problem in problems)
    assert "router-default has" in text(findings)


def test_a_user_who_may_see_no_groups_is_told_so_and_looked_at_all_the_same(look):
    findings = look(RecordedApi(openshift_on_aws(**{"/apis": refused(403, "no groups for you")})))
    assert all("no groups for you" in problem for problem in blocking(findings))
    assert "router-default has" in text(findings)


def test_a_cluster_that_says_nothing_is_asked_once(look):
    apis = [DeadApi(silent=True), DeadApi(silent=True)]
    problems = blocking(look(*apis, patience=1.0))
    assert [problem[:6] for problem in problems] == ["mesh1:", "mesh2:"], problems
    assert all("no answer within 1 s. Check the server address" in problem for problem in problems)
    assert [len(api.connections) for api in apis] == [1, 1]


@pytest.mark.parametrize(
    ("entry", "said", "advice"),
    [
        ({"certificate-authority-data": stranger()}, "not believed: ", "`certificate-authority-data`"),
        ({"tls-server-name": "api.elsewhere.example"}, "not valid for 'api.elsewhere.example'", "`tls-server-name`"),
    ],
)
def test_a_certificate_that_is_not_believed_is_told_as_such_and_asked_for_once(look, entry, said, advice):
    api = DeadApi(entry)
    (problem,) = blocking(look(api, patience=30.0))
    assert said in problem
    assert advice in problem
    assert "NO_PROXY" in problem or "certificate-authority" not in problem
    assert len(api.connections) == 1
