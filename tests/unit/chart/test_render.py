"""Every values file in ``ci/`` renders to objects that the oldest and the newest supported Kubernetes accept."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import structlog
import yaml

from shared.costs import prices
from tests.fixtures.helm import CASES, CHART, of_kind, pod_specs, rendered, run_helm, template, validate

OLDEST, NEWEST = "1.25", "1.37"
#: Kinds of others (Prometheus operator, Gateway API, KEDA, GKE) have no schema in Kubernetes itself.
FOREIGN = ("monitoring.coreos.com/", "gateway.networking.k8s.io/", "keda.sh/", "cloud.google.com/")

#: Where KEDA scales, the autoscaler has nothing to ask of the API server.
KEDA = ("keda", "everything")


def test_lint_is_clean() -> None:
    done = run_helm("lint", "--strict", str(CHART))
    assert "0 chart(s) failed" in done.stdout


@pytest.mark.parametrize("case", CASES)
def test_lint_of_each_case(case: str) -> None:
    run_helm("lint", "--strict", str(CHART), "--values", str(CHART / "ci" / f"{case}-values.yaml"))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_objects_are_valid(case: str, version: str) -> None:
    own = [each for each in rendered(case) if not each["apiVersion"].startswith(FOREIGN)]
    assert len(own) > 15
    for each in own:
        validate(each, version)


def test_kubernetes_validate_itself_agrees(tmp_path: Path) -> None:
    file = tmp_path / "frontend.yaml"
    file.write_text(yaml.safe_dump(of_kind(rendered("kind"), "Deployment")[0]))
    subprocess.run([sys.executable, "-m", "kubernetes_validate", "--strict", "-k", OLDEST, str(file)], check=True)


def test_validation_can_fail() -> None:
    deployment = of_kind(rendered("kind"), "Deployment")[0]
    deployment["spec"]["replica"] = 1
    with pytest.raises(jsonschema.ValidationError):
        validate(deployment, NEWEST)


@pytest.mark.parametrize("case", CASES)
def test_names_are_unique_and_namespaced(case: str) -> None:
    objects = rendered(case)
    names = [(each["apiVersion"], each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))
    for each in objects:
        assert each["kind"] == "PriorityClass" or each["metadata"]["namespace"] == "lab"
        assert len(each["metadata"]["name"]) <= 63
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == "kiosk"


def _containers(case: str) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    specs = {name: spec for name, spec in pod_specs(rendered(case)).items() if not name.endswith("-logging")}
    return [(name, spec, container) for name, spec in specs.items() for container in spec["containers"]]


@pytest.mark.parametrize("case", CASES)
def test_pods_are_restricted(case: str) -> None:
    """Pod Security "restricted", field by field; only the log shipper, which reads the node's files, is not."""
    for name, spec, container in _containers(case):
        security = container["securityContext"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", name
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["capabilities"]["drop"] == ["ALL"], name
        assert "add" not in security["capabilities"], name
        assert security["readOnlyRootFilesystem"] is True, name
        allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
        assert all(allowed & volume.keys() for volume in spec.get("volumes", [])), name
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}, name


@pytest.mark.parametrize("case", CASES)
def test_containers_state_what_they_need(case: str) -> None:
    for name, spec, container in _containers(case):
        assert container["resources"]["requests"]["memory"], name
        assert "memory" in container["resources"]["limits"], name
        assert all(port["protocol"] in {"TCP", "UDP"} for port in container.get("ports", [])), name
        if not name.startswith("Pod/") and not name.endswith(("-console", "-benchmark")):  # those wait for somebody
            assert "livenessProbe" in container, name
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted <= {volume["name"] for volume in spec.get("volumes", [])} | {"data"}, name
        needs = ("-janitor", "-prometheus", *(() if case in KEDA else ("-autoscaler",)))
        assert spec["automountServiceAccountToken"] is name.endswith(needs), name


@pytest.mark.parametrize("case", CASES)
def test_all_ports_of_services_lead_to_containers(case: str) -> None:
    objects = rendered(case)
    workloads = of_kind(objects, "Deployment", "StatefulSet")
    services = of_kind(objects, "Service")
    assert services
    for service in services:
        selector = service["spec"]["selector"].items()
        templates = [w["spec"]["template"] for w in workloads]
        behind = [t["spec"] for t in templates if selector <= t["metadata"]["labels"].items()]
        assert behind, service["metadata"]["name"]
        names = {port["name"] for spec in behind for c in spec["containers"] for port in c.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


@pytest.mark.parametrize("case", CASES)
def test_secrets_are_never_in_plain_environment(case: str) -> None:
    for name, _, container in _containers(case):
        for variable in container.get("env", []):
            if any(word in variable["name"] for word in ("PASSWORD", "SECRET", "PRIVATE_KEY", "API_KEY")):
                assert "secretKeyRef" in variable["valueFrom"], f"{name}: {variable['name']}"


@pytest.mark.parametrize("case", CASES)
def test_grace_periods_cover_the_services_own(case: str) -> None:
    """The kubelet must not kill a service that still has time of its own to finish."""
    for name, spec, container in _containers(case):
        own = {v["name"]: v.get("value") for v in container.get("env", [])}.get("KIOSK_GRACE")
        if own:
            hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [""])[-1]
            sleep = int("".join(c for c in hook if c.isdigit()) or 0)
            assert spec["terminationGracePeriodSeconds"] >= float(own) + sleep + 4, name


def test_rights_are_few_and_within_the_namespace() -> None:
    objects = rendered("gke")
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")
    roles = {each["metadata"]["name"]: each["rules"] for each in of_kind(objects, "Role")}
    assert set(roles) == {"kiosk-cellkiosk-autoscaler", "kiosk-cellkiosk-janitor"}
    for rules in roles.values():
        for rule in rules:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            assert not set(rule["resources"]) & {"secrets", "pods/exec", "roles"}
            if "patch" in rule["verbs"] and rule["resources"] == ["deployments/scale"]:
                assert set(rule["resourceNames"]) == {
                    "kiosk-cellkiosk-consumer-images",
                    "kiosk-cellkiosk-consumer-movies",
                    "kiosk-cellkiosk-consumer-archives",
                    "kiosk-cellkiosk-triton",
                }


@pytest.mark.parametrize("part", ["frontend", "consumer", "autoscaler", "janitor", "observability"])
def test_each_part_can_be_switched_off(part: str) -> None:
    objects = template("--set", f"{part}.enabled=false", case="kind")
    own = [each for each in objects if each["metadata"]["labels"]["app.kubernetes.io/component"] == part]
    assert own == []
    assert len(objects) > 15


def test_what_is_switched_off_must_be_named() -> None:
    done = run_helm("template", "kiosk", str(CHART), "--set", "redis.enabled=false", check=False)
    assert "redis.external.url or redis.external.existingSecret must say where Redis is" in done.stderr
    done = run_helm("template", "kiosk", str(CHART), "--set", "triton.enabled=false", check=False)
    assert "triton.external.url must say where the models are" in done.stderr


def test_consumers_are_made_from_one_list() -> None:
    deployments = {each["metadata"]["name"]: each for each in of_kind(rendered("gke"), "Deployment")}
    pools = {name for name in deployments if "-consumer-" in name}
    assert pools == {f"kiosk-cellkiosk-consumer-{pool}" for pool in ("images", "movies", "archives")}
    movies = deployments["kiosk-cellkiosk-consumer-movies"]["spec"]["template"]["spec"]
    assert movies["containers"][0]["resources"]["requests"]["cpu"] == "4"
    assert movies["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}, (
        "the defaults hold where the entry is silent"
    )
    types = {v["name"]: v.get("value") for v in movies["containers"][0]["env"]}["KIOSK_WORK__TYPES"]
    assert types == '["tracking"]'


def test_a_pool_may_switch_off_what_the_defaults_switch_on() -> None:
    rest = next(d for d in of_kind(rendered("keda"), "Deployment") if d["metadata"]["name"].endswith("-rest"))
    assert rest["spec"]["replicas"] == 2


def test_jobs_wait_for_a_model_server_that_has_to_start_first() -> None:
    """Else their attempts are used up before a GPU node has booted."""

    def told(*words: str) -> tuple[float, str]:
        pod = pod_specs(template(*words, case="gke"))["Deployment/kiosk-cellkiosk-consumer-images"]
        container = pod["containers"][0]
        env = {each["name"]: each.get("value") for each in container["env"]}
        return float(env["KIOSK_MODEL_SERVER__PATIENCE"]), container["readinessProbe"]["httpGet"]["path"]

    assert told() == (900, "/healthz"), "nor must an upgrade wait for one"
    words = "triton.startSeconds=100,consumer.defaults.settings.model_server.patience=500"
    assert told("--set", words) == (500, "/healthz")
    assert told("--set", "triton.autoscaling.target.min_replicas=1") == (60, "/readyz")


def test_sidecar_puts_triton_and_its_gpu_into_the_consumer_pod() -> None:
    specs = pod_specs(rendered("everything"))
    pod = specs["Deployment/kiosk-cellkiosk-consumer-gpu"]
    consumer, triton = pod["containers"]
    assert triton["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["nodeSelector"] == {"pool": "gpu", "gpu": "t4"}
    assert pod["runtimeClassName"] == "nvidia"
    assert {"name": "shm", "mountPath": "/dev/shm"} in consumer["volumeMounts"]
    env = {v["name"]: v.get("value") for v in consumer["env"]}
    assert env["KIOSK_MODEL_SERVER__URL"] == "grpc://127.0.0.1:8001"
    assert "Deployment/kiosk-cellkiosk-triton" not in specs


def test_triton_gets_the_time_that_it_may_take_to_start() -> None:
    spec = pod_specs(template("--set", "triton.startSeconds=123", case="kind"))["Deployment/kiosk-cellkiosk-triton"]
    probe = spec["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 125


def test_a_model_server_that_hangs_is_found_within_the_time_given() -> None:
    spec = pod_specs(template("--set", "triton.hungSeconds=77", case="kind"))["Deployment/kiosk-cellkiosk-triton"]
    assert "--hung-seconds=77" in spec["containers"][0]["args"]


READS_PRICES = {f"Deployment/kiosk-cellkiosk-{name}" for name in ("frontend", "console", "benchmark")}


def test_a_price_list_of_ones_own_is_mounted_where_money_is_told(tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("# date: 2026-01-15\r\nkind,type,on_demand,spot\r\nmachine,ours,0.25,0.05\r\n")
    objects = template("--set-file", f"priceList={mine}", case="kind")
    (held,) = (each["data"]["own.csv"] for each in of_kind(objects, "ConfigMap") if "own.csv" in each.get("data", {}))
    (tmp_path / "own.csv").write_text(held)
    assert prices.load(str(tmp_path / "own.csv")).hour("ours") == 0.25
    found = {}
    for name, spec in pod_specs(objects).items():
        env = {each["name"]: each.get("value") for each in spec["containers"][0].get("env", [])}
        mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0].get("volumeMounts", [])}
        if "KIOSK_PRICES" in env:
            found[name] = env["KIOSK_PRICES"].startswith(mounts["prices"])
            assert {"name": "prices", "configMap": {"name": "kiosk-cellkiosk-prices"}} in spec["volumes"]
    assert found == dict.fromkeys(READS_PRICES, True)


def test_the_console_knows_what_work_is_worth() -> None:
    pods = pod_specs(template("--set", "frontend.settings.cost.cpu_machine=n1-standard-4"))
    for name in ("frontend", "console"):
        env = pods[f"Deployment/kiosk-cellkiosk-{name}"]["containers"][0]["env"]
        assert {"name": "KIOSK_COST__CPU_MACHINE", "value": "n1-standard-4"} in env, name


@pytest.mark.parametrize(("gpus", "price"), [(0, "0.05"), (1, "1.07")])
def test_a_model_server_without_a_gpu_is_not_priced_as_one_with_it(gpus: int, price: str) -> None:
    objects = template("--set", f"triton.gpus={gpus}")
    (text,) = (text for each in of_kind(objects, "ConfigMap") for name, text in each["data"].items() if "cost" in name)
    panels = {panel["title"]: panel["targets"][0]["expr"] for panel in json.loads(text)["panels"]}
    assert panels["Model servers, priced"].startswith(f"{price} * (count(up{{")


def test_without_one_the_bundled_list_is_used_and_other_texts_are_refused() -> None:
    assert "KIOSK_PRICES" not in str(rendered("kind"))
    done = run_helm("template", "kiosk", str(CHART), "--set", "priceList=prices.csv", check=False)
    assert "priceList" in done.stderr


def test_an_ingress_lets_large_files_and_long_streams_pass_unless_told_otherwise() -> None:
    key = "nginx.ingress.kubernetes.io/proxy-"
    (ingress,) = of_kind(rendered("gke"), "Ingress")
    assert ingress["metadata"]["annotations"][f"{key}body-size"] == "0"
    assert ingress["metadata"]["annotations"]["cert-manager.io/cluster-issuer"] == "letsencrypt"
    words = ["--set-string", f"frontend.ingress.annotations.{key.replace('.', chr(92) + '.')}body-size=9m"]
    (ingress,) = of_kind(template(*words, case="gke"), "Ingress")
    assert ingress["metadata"]["annotations"][f"{key}body-size"] == "9m"


def test_the_cluster_may_choose_the_user() -> None:
    objects = template("--set", "podSecurity.user=null", case="kind")
    for name, spec in pod_specs(objects).items():
        assert spec["securityContext"].keys() == {"runAsNonRoot", "seccompProfile"}, name


@pytest.mark.parametrize("case", KEDA)
def test_where_keda_scales_the_autoscaler_has_no_rights(case: str) -> None:
    objects = rendered(case)
    assert "kiosk-cellkiosk-autoscaler" not in {each["metadata"]["name"] for each in of_kind(objects, "Role")}
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(objects, "NetworkPolicy")}
    assert 6443 not in {
        port["port"] for rule in policies["kiosk-cellkiosk-autoscaler"]["egress"] for port in rule["ports"]
    }


def test_only_keda_may_ask_the_external_scaler() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(rendered("keda"), "NetworkPolicy")}
    (rule,) = (r for r in policies["kiosk-cellkiosk-autoscaler"]["ingress"] if r["ports"][0]["port"] == 6000)
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}]


def test_the_chart_names_all_its_images() -> None:
    """Artifact Hub scans those that the annotation lists; each is of one version, and none is called latest."""
    annotations = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    named = {each["image"] for each in yaml.safe_load(annotations["artifacthub.io/images"])}
    specs = pod_specs(rendered("everything")).values()  # where one image is given by its digest
    used = {
        container["image"].replace(f"@sha256:{'0' * 64}", ":0.1.0")
        for spec in specs
        for container in spec["containers"]
    }
    assert named == used
    assert all(re.search(r":v?[0-9a-f]{40}$|:v?\d+\.\d+\.\d+", image) for image in named)


def test_a_model_server_beside_a_consumer_is_still_looked_at() -> None:
    """Its metrics are let in, selected and named as those of a server in a pod of its own."""
    objects = rendered("everything")
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(objects, "NetworkPolicy")}
    ingress = policies["kiosk-cellkiosk-consumer"]["ingress"]
    assert {port["port"] for rule in ingress for port in rule["ports"]} == {9090, 8002}
    monitors = {each["metadata"]["name"]: each["spec"] for each in of_kind(objects, "PodMonitor")}
    labels = monitors["kiosk-cellkiosk-triton"]["selector"]["matchLabels"]
    assert labels["app.kubernetes.io/component"] == "consumer"
    config = next(each for each in of_kind(objects, "ConfigMap") if each["metadata"]["name"].endswith("-prometheus"))
    rules = yaml.safe_load(config["data"]["prometheus.yaml"])["scrape_configs"][0]["relabel_configs"]
    assert [rule["replacement"] for rule in rules if rule.get("target_label") == "job"][-1] == "cellkiosk-triton"


def test_gpu_metrics_keep_the_namespace_of_the_pod_that_uses_the_gpu() -> None:
    """The dashboards choose by it; the exporter itself runs elsewhere."""
    monitors = {each["metadata"]["name"]: each["spec"] for each in of_kind(rendered("gke"), "PodMonitor")}
    assert monitors["kiosk-cellkiosk-dcgm"]["podMetricsEndpoints"][0]["honorLabels"] is True


@pytest.mark.parametrize("target", ["loki", "elasticsearch"])
def test_log_shipping_defines_what_it_uses(target: str) -> None:
    """A parser that is not defined ends Fluent Bit at its start; the time is read as our lines write it."""
    words = ["--set", f"logging.enabled=true,logging.target={target},logging.existingSecret=login"]
    objects = template(*words, case="kind")
    config = next(each for each in of_kind(objects, "ConfigMap") if each["metadata"]["name"].endswith("-logging"))
    shipping = yaml.safe_load(config["data"]["fluent-bit.yaml"])
    parsers = {each["name"]: each for each in shipping["parsers"]}
    assert {each["parser"] for each in shipping["pipeline"]["filters"]} == set(parsers)
    line = {"timestamp": structlog.processors.TimeStamper(fmt="iso", utc=True)(None, "", {})["timestamp"]}
    form = parsers["event"]["time_format"].replace("%L", "%f")
    assert datetime.datetime.strptime(line[parsers["event"]["time_key"]], form)
    (output,) = shipping["pipeline"]["outputs"]
    env = pod_specs(objects)["DaemonSet/kiosk-cellkiosk-logging"]["containers"][0]["env"]
    assert {f"${{{each['name']}}}" for each in env} == {output["http_user"], output["http_passwd"]}


def test_vpn_needs_somebody_to_let_in() -> None:
    words = ["--set", "vpn.enabled=true,vpn.existingSecret=key"]
    done = run_helm("template", "kiosk", str(CHART), *words, check=False)
    assert "vpn.peers must name at least one person" in done.stderr


def test_what_the_notes_say_to_run_exists() -> None:
    """The first key is made in a pod that reaches Redis, by a command that its image has on its path."""
    deployments = {each["metadata"]["name"]: each["spec"] for each in of_kind(rendered("gke"), "Deployment")}
    console = deployments["kiosk-cellkiosk-console"]["template"]["spec"]["containers"][0]
    assert {"KIOSK_REDIS__URL", "KIOSK_STORAGE__URL"} <= {each["name"] for each in console["env"]}
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(rendered("gke"), "NetworkPolicy")}
    edges = [
        rule for rule in policies["kiosk-cellkiosk-console"]["egress"] for port in rule["ports"] if port["port"] == 6379
    ]
    assert edges
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    assert "exec deployment/{{ $name }}-console -- kiosk keys create" in notes
    benchmark = deployments["kiosk-cellkiosk-benchmark"]
    assert benchmark["replicas"] == 0
