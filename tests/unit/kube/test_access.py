"""May we? As the API server says."""

from clearml_k8s.kube import access
from clearml_k8s.kube.resources import CONFIGMAPS, JOBS


async def test_access_review(cluster, client):
    may = await access.review(client, verb="create", resource=JOBS, namespace="ns")
    may_not = await access.review(client, verb="delete", resource=CONFIGMAPS, namespace="ns", name="x")
    assert may.allowed
    assert str(may_not) == "may not delete configmaps 'x' in namespace ns"
    assert cluster.of("POST")[0].body["spec"]["resourceAttributes"] == {
        "verb": "create",
        "group": "batch",
        "resource": "jobs",
        "namespace": "ns",
    }
