"""A client of an API server with the standard library: JSON over TLS, and watches."""
from __future__ import annotations

import http.client
import json
import pathlib
import ssl
import threading
import urllib.parse
from typing import Any, Iterator, Optional


class Refused(Exception):
    """The API server said no; `code` is HTTP's, `reason` its own word and `message` its sentence."""

    def __init__(self, code: int, status: dict[str, Any]):
        super().__init__(f"{code} {status.get('reason', '')}: {status.get('message', '')}")
        self.code, self.reason, self.message = code, status.get("reason", ""), status.get("message", "")


# Where resources that are not of the core group are; what is not here is asked of the API server.
GROUPS = {
    "pods": "/api/v1", "nodes": "/api/v1", "events": "/api/v1", "secrets": "/api/v1", "configmaps": "/api/v1",
    "namespaces": "/api/v1", "serviceaccounts": "/api/v1", "services": "/api/v1",
    "persistentvolumes": "/api/v1", "persistentvolumeclaims": "/api/v1",
    "clusterrolebindings": "/apis/rbac.authorization.k8s.io/v1", "clusterroles": "/apis/rbac.authorization.k8s.io/v1",
    "deployments": "/apis/apps/v1",
    "customresourcedefinitions": "/apis/apiextensions.k8s.io/v1", "leases": "/apis/coordination.k8s.io/v1",
    "trainingjobs": "/apis/thole.dev/v1alpha1", "nodepools": "/apis/thole.dev/v1alpha1",
    "podgroups.scheduling.x-k8s.io": "/apis/scheduling.x-k8s.io/v1alpha1", "podgroups": "/apis/scheduling.k8s.io/v1alpha2",
    "rayclusters": "/apis/ray.io/v1", "rayjobs": "/apis/ray.io/v1",
}
CLUSTER_SCOPE = {"nodes", "namespaces", "persistentvolumes", "clusterrolebindings", "clusterroles", "customresourcedefinitions",
                 "nodepools"}


class Client:
    """Calls as one user, with one connection for each thread."""

    def __init__(self, host: str, port: int, authority: pathlib.Path, certificate: Optional[pathlib.Path] = None,
                 key: Optional[pathlib.Path] = None, token: str = ""):
        self.host, self.port, self.token = host, port, token
        self.tls = ssl.create_default_context(cafile=str(authority))
        if certificate is not None:
            self.tls.load_cert_chain(str(certificate), str(key))
        self._of_thread = threading.local()

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json", seconds: float = 60) -> Any:
        """What the API server answers, as data or, where that is not JSON, as text; raises Refused."""
        text = None if body is None else body if isinstance(body, (bytes, str)) else json.dumps(body)
        headers = {"Content-Type": kind, "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        for attempt in (0, 1):
            connection = getattr(self._of_thread, "connection", None)
            fresh = connection is None
            if connection is None:
                connection = http.client.HTTPSConnection(self.host, self.port, context=self.tls, timeout=seconds)
                self._of_thread.connection = connection
            try:
                connection.request(method, path, text, headers)
                answer = connection.getresponse()
                found = answer.read()
                break
            except (http.client.HTTPException, OSError):
                connection.close()
                self._of_thread.connection = None
                # A connection that was idle may have been closed; a fresh one that fails is an answer.
                if fresh or attempt:
                    raise
        try:
            data = json.loads(found)
        except ValueError:
            data = found.decode(errors="replace")
        if answer.status >= 400:
            raise Refused(answer.status, data if isinstance(data, dict) else {"message": str(data)})
        return data

    @staticmethod
    def path(resource: str, namespace: str = "default", name: str = "", part: str = "", **query: str) -> str:
        where = GROUPS[resource]
        if resource not in CLUSTER_SCOPE and namespace:
            where += f"/namespaces/{namespace}"
        where += "/" + resource.split(".")[0]
        where += f"/{name}" if name else ""
        where += f"/{part}" if part else ""
        return where + ("?" + urllib.parse.urlencode(query) if query else "")

    def create(self, resource: str, thing: dict[str, Any]) -> Any:
        return self.call("POST", self.path(resource, thing["metadata"].get("namespace", "default")), thing)

    def get(self, resource: str, name: str, namespace: str = "default") -> Any:
        return self.call("GET", self.path(resource, namespace, name))

    def find(self, resource: str, name: str, namespace: str = "default") -> Optional[Any]:
        """The thing, or None if there is none."""
        try:
            return self.get(resource, name, namespace)
        except Refused as refusal:
            if refusal.code == 404:
                return None
            raise

    def list(self, resource: str, namespace: str = "default", **query: str) -> list[Any]:
        """All of a namespace, or, with namespace="", of all of them."""
        found: list[Any] = []
        more = ""
        while True:
            page = self.call("GET", self.path(resource, namespace, limit="500", **({"continue": more} if more else {}), **query))
            found += page["items"]
            more = page["metadata"].get("continue", "")
            if not more:
                return found

    def patch(self, resource: str, name: str, change: Any, namespace: str = "default", part: str = "") -> Any:
        """A merge patch, or a JSON patch if `change` is a list."""
        kind = "application/json-patch+json" if isinstance(change, list) else "application/merge-patch+json"
        return self.call("PATCH", self.path(resource, namespace, name, part), change, kind)

    def delete(self, resource: str, name: str, namespace: str = "default", grace: Optional[int] = None) -> Any:
        """Asks for it; what is not there is deleted."""
        query = {} if grace is None else {"gracePeriodSeconds": str(grace)}
        try:
            return self.call("DELETE", self.path(resource, namespace, name, **query))
        except Refused as refusal:
            if refusal.code != 404:
                raise
            return None

    def delete_all(self, resource: str, namespace: str = "default", grace: Optional[int] = 0, **query: str) -> None:
        more = {} if grace is None else {"gracePeriodSeconds": str(grace)}
        self.call("DELETE", self.path(resource, namespace, **more, **query))

    def logs(self, pod: str, container: str = "", namespace: str = "default") -> str:
        query = {"container": container} if container else {}
        found = self.call("GET", self.path("pods", namespace, pod, "log", **query))
        return found if isinstance(found, str) else json.dumps(found)

    def watch(self, resource: str, namespace: str = "default", since: str = "", seconds: int = 30) -> Iterator[tuple[str, Any]]:
        """Events of kind and object, until the time is over. A connection of its own."""
        path = self.path(resource, namespace, watch="1", timeoutSeconds=str(seconds), **({"resourceVersion": since} if since else {}))
        connection = http.client.HTTPSConnection(self.host, self.port, context=self.tls, timeout=seconds + 10)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"} if self.token else {})
            answer = connection.getresponse()
            while line := answer.readline():
                event = json.loads(line)
                yield event["type"], event["object"]
        finally:
            connection.close()
