"""What is deployed from deploy/ and .github/: that it fits together, and opens nothing that should be closed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
GCP = PROJECT / "deploy" / "gcp"
TERRAFORM = sorted(GCP.glob("*.tf"))
WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yaml"))
EVERYBODY = {"0.0.0.0/0", "::/0"}
# Files of the same release that other commits bring.
IAP = ["35.235.240.0/20"]  # https://docs.cloud.google.com/iap/docs/using-tcp-forwarding


def _plain(value: Any) -> Any:
    """What hcl2 reads, without the quotes that it keeps around names and texts."""
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value[1:-1] if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"' else value


def _blocks(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The blocks of a kind in all files, by their labels: `google_sql_user.admin`."""
    for file in TERRAFORM:
        for block in _plain(hcl2.loads(file.read_text())).get(kind, []):
            for label, content in block.items():
                if kind in ("resource", "ephemeral", "data"):
                    for name, arguments in content.items():
                        yield f"{label}.{name}", arguments
                else:
                    yield label, content


def _resources(kind: str) -> dict[str, dict[str, Any]]:
    found = {name: arguments for name, arguments in _blocks("resource") if name.startswith(f"{kind}.")}
    assert found, f"there is no {kind}"
    return found


def _locals() -> dict[str, Any]:
    return {
        name: value
        for file in TERRAFORM
        for block in _plain(hcl2.loads(file.read_text())).get("locals", [])
        for name, value in block.items()
    }


@pytest.mark.parametrize("file", TERRAFORM, ids=lambda file: file.name)
def test_terraform_is_terraform(file):
    assert hcl2.loads(file.read_text())


def test_each_variable_is_declared_described_and_used():
    declared = dict(_blocks("variable"))
    used = {
        name
        for file in TERRAFORM
        if file.name != "variables.tf"  # where their own rules name them
        for name in re.findall(r"\bvar\.(\w+)", re.sub(r"#.*", "", file.read_text()))
    }
    assert used == declared.keys()
    assert [name for name, variable in declared.items() if not variable.get("description")] == []


def test_the_example_gives_each_variable_that_must_be_given():
    example = _plain(hcl2.loads((GCP / "terraform.tfvars.example").read_text()))
    declared = dict(_blocks("variable"))
    assert example.keys() <= declared.keys()
    assert {name for name, variable in declared.items() if "default" not in variable} <= example.keys()


def test_names_that_terraform_refers_to_are_there():
    text = "\n".join(re.sub(r"#.*", "", file.read_text()) for file in TERRAFORM)
    there = {name for name, _ in _blocks("resource")}
    ephemeral = {name for name, _ in _blocks("ephemeral")}
    assert set(re.findall(r"(?<![\w.])(google_\w+\.\w+)", text)) <= there
    assert set(re.findall(r"\bephemeral\.(\w+\.\w+)", text)) <= ephemeral
    assert set(re.findall(r"\blocal\.(\w+)", text)) == _locals().keys()


def test_providers_are_pinned():
    for file in TERRAFORM:
        for block in _plain(hcl2.loads(file.read_text())).get("terraform", []):
            for provider in block["required_providers"][0].values():
                assert re.fullmatch(r"\d+\.\d+\.\d+", provider["version"])


def test_the_world_reaches_the_web_and_only_iap_reaches_ssh():
    for name, rule in _resources("google_compute_firewall").items():
        assert rule["direction"] == "INGRESS", name
        assert rule["target_service_accounts"], f"{name} is for every machine of the network"
        ports = {(allow["protocol"], port) for allow in rule["allow"] for port in allow.get("ports", ["all"])}
        if set(rule["source_ranges"]) & EVERYBODY:
            assert ports <= {("tcp", "80"), ("tcp", "443")}, name
        else:
            assert (rule["source_ranges"], ports) == (IAP, {("tcp", "22")}), name


def test_the_network_is_not_the_default_one():
    for network in _resources("google_compute_network").values():
        assert network["auto_create_subnetworks"] is False


def test_the_database_has_no_public_address_and_can_be_brought_back():
    for instance in _resources("google_sql_database_instance").values():
        settings = instance["settings"][0]
        address, backup = settings["ip_configuration"][0], settings["backup_configuration"][0]
        assert address["ipv4_enabled"] is False
        assert "authorized_networks" not in address
        assert address["ssl_mode"] in ("ENCRYPTED_ONLY", "TRUSTED_CLIENT_CERTIFICATE_REQUIRED")
        assert backup["enabled"] is True
        assert backup["point_in_time_recovery_enabled"] is True
        for protection in (instance["deletion_protection"], settings["deletion_protection_enabled"]):
            assert protection == "${var.deletion_protection}"
    assert dict(_blocks("variable"))["deletion_protection"]["default"] is True


def test_buckets_are_not_public():
    for bucket in _resources("google_storage_bucket").values():
        assert bucket["uniform_bucket_level_access"] is True
        assert bucket["public_access_prevention"] == "enforced"
        assert bucket["lifecycle_rule"]
    text = json.dumps(list(_blocks("resource")))
    assert not re.search(r"allUsers|allAuthenticatedUsers|roles/(owner|editor|viewer)\b", text)


def test_no_password_is_in_the_state():
    assert not [name for name, _ in _blocks("resource") if name.startswith("random_")]
    for name, arguments in _blocks("resource"):
        assert not {"password", "secret_data", "root_password"} & arguments.keys(), name
    assert not list(_blocks("data"))


def test_only_main_deploys():
    for provider in _resources("google_iam_workload_identity_pool_provider").values():
        assert "assertion.repository == " in provider["attribute_condition"]
        assert "assertion.ref == 'refs/heads/main'" in provider["attribute_condition"]


def test_the_machine_finds_what_its_scripts_ask_for():
    scripts = [(GCP / name).read_text() for name in ("startup.sh", "taxi-deploy")]
    asked = {name for script in scripts for name in re.findall(r"\$\(metadata ([a-z-]+)\)", script)}
    given = _resources("google_compute_instance")["google_compute_instance.taxi"]["metadata"]
    assert asked == {name for name in given if name.startswith("taxi-")}
    passwords = set(re.findall(r"\bpassword (\w+)(?:\)| \|)", scripts[1]))
    assert json.dumps(sorted(passwords)) == json.dumps(sorted(re.findall(r"\w+", _locals()["passwords"])[1:]))
    for named in re.findall(r"(?:deploy|docs)/[\w./-]+", "\n".join(scripts)):
        assert (PROJECT / named).exists(), named


@pytest.mark.parametrize("script", ["startup.sh", "taxi-deploy"])
def test_scripts_are_bash(script):
    subprocess.run(["bash", "-n", GCP / script], check=True)
    assert (GCP / script).stat().st_mode & 0o111 == 0o111


FAKES = {
    "curl": 'for last; do :; done; echo "of-${last##*/}"',  # of the metadata server: of-taxi-site
    "gcloud": 'while [ "$1" != --secret ]; do shift; done; echo "secret-$2"',
    "psql": "cat",
    "htpasswd": 'read -r given; [ "$1" != -iv ] || exec grep -q "$given" "$2"; echo "login:HASH-OF-$given" > "$3"',
    "docker": '[ "$2" != "$BROKEN" ]',
    "git": 'if [ "$1" = rev-parse ]; then echo c0ffee; fi',
    "cmp": "true",
    "flock": "true",
    "id": "echo 0",
    "install": "true",
    "systemctl": "true",
}


@pytest.fixture
def deploy(tmp_path):
    """`taxi-deploy` on a machine where every other command is a fake that notes how it was called."""
    checkout, commands = tmp_path / "checkout", tmp_path / "commands"
    for file in ("deploy/postgres/roles.sql", "deploy/gcp/dagster_role.sql"):
        (checkout / file).parent.mkdir(parents=True, exist_ok=True)
        (checkout / file).write_text("-- statements\n")
    commands.mkdir()
    for name, does in FAKES.items():
        (commands / name).write_text(f'#!/bin/bash\necho "{name} $*" >> {tmp_path}/calls\n{does}\n')
        (commands / name).chmod(0o755)
    (tmp_path / "release").write_text("IMAGE=ghcr.io/owner/taxi-assets:v1\nREF=v1\n")
    script = (GCP / "taxi-deploy").read_text()
    for real, here in (
        ("/opt/taxi-assets", checkout), ("/etc/taxi/release", tmp_path / "release"),
        ("/run/lock/taxi-deploy", tmp_path / "lock"), ("/etc/taxi/login", tmp_path / "login"),
    ):  # fmt: skip
        assert real in script
        script = script.replace(real, str(here))
    (tmp_path / "taxi-deploy").write_text(script)

    def run(*arguments: str, broken: str = "") -> subprocess.CompletedProcess[str]:
        path = {"PATH": f"{commands}:/usr/bin:/bin", "BROKEN": broken}
        return subprocess.run(
            ["bash", tmp_path / "taxi-deploy", *arguments], capture_output=True, text=True, env=path, timeout=60
        )

    return run


def test_a_release_is_brought_up_with_its_settings_for_root_alone(deploy, tmp_path):
    done = deploy("ghcr.io/owner/taxi-assets:v2", "v2")
    assert (done.returncode, done.stderr) == (0, "")
    settings = tmp_path / "checkout" / ".env"
    assert settings.stat().st_mode & 0o777 == 0o600
    lines = dict(line.split("=", 1) for line in settings.read_text().splitlines())
    assert lines["TAXI_IMAGE"] == "ghcr.io/owner/taxi-assets:v2"
    assert lines["TAXI_LOGIN_HASH"] == "'HASH-OF-secret-taxi-login-password'"
    assert lines["TAXI_POSTGRES_URL"] == (
        "postgresql://taxi_loader:secret-taxi-loader-password@of-taxi-database:5432/ny_taxi?sslmode=require"
    )
    assert lines["DAGSTER_POSTGRES_URL"] == (
        "postgresql://dagster:secret-taxi-dagster-password@of-taxi-database:5432/dagster?sslmode=require"
    )
    assert lines["TAXI_SITE"] == "of-taxi-site"
    assert (tmp_path / "login").stat().st_mode & 0o777 == 0o600
    calls = (tmp_path / "calls").read_text()
    assert calls.index("docker compose pull") < calls.index("docker compose up --detach --wait")
    assert "secret-" not in calls  # on no command line, which all who list processes can read
    assert (tmp_path / "release").read_text() == "IMAGE=ghcr.io/owner/taxi-assets:v2\nREF=c0ffee\n"


def test_what_did_not_come_up_is_not_what_a_restart_goes_back_to(deploy, tmp_path):
    assert deploy("ghcr.io/owner/taxi-assets:v2", "v2", broken="up").returncode != 0
    assert (tmp_path / "release").read_text() == "IMAGE=ghcr.io/owner/taxi-assets:v1\nREF=v1\n"
    assert deploy().returncode == 0
    assert "TAXI_IMAGE=ghcr.io/owner/taxi-assets:v1" in (tmp_path / "checkout" / ".env").read_text()


def test_nothing_changes_where_nothing_is_new(deploy, tmp_path):
    settings = tmp_path / "checkout" / ".env"
    assert deploy().returncode == 0
    before = settings.read_text()
    assert deploy().returncode == 0
    assert settings.read_text() == before
    assert (tmp_path / "calls").read_text().count("htpasswd -ciBC") == 1


@pytest.mark.parametrize(
    "arguments", [["ghcr.io/owner/taxi-assets:v2"], ["taxi-assets", "v2"], ["a/b:v2", "--upload-pack=x"]]
)
def test_what_is_no_release_is_refused(deploy, tmp_path, arguments):
    assert deploy(*arguments).returncode == 2
    assert not (tmp_path / "checkout" / ".env").exists()


def _steps(workflow: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in yaml.safe_load(workflow.read_text())["jobs"].items():
        yield from ((f"{workflow.name}, {name}", step) for step in job.get("steps", []))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.name)
def test_actions_are_pinned_by_commit(workflow):
    uses = re.findall(r"\buses: *(.*)", workflow.read_text())
    assert uses
    for use in uses:
        assert use.startswith("./") or re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*", use), use


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.name)
def test_workflows_ask_for_no_more_than_they_need(workflow):
    content = yaml.safe_load(workflow.read_text())
    assert content["permissions"] == {}
    assert "concurrency" in content
    assert not {"pull_request_target", "workflow_run"} & set(content[True])  # YAML reads `on` as true
    for name, job in content["jobs"].items():
        assert isinstance(job["permissions"], dict), name
        assert "uses" in job or job["timeout-minutes"] <= 90, name
    for where, step in _steps(workflow):
        # What others may write, such as the title of a pull request, would be run as part of the script.
        assert "${{" not in step.get("run", ""), where
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, where


@pytest.mark.parametrize(
    "schema, files",
    [("github-workflows", WORKFLOWS), ("dependabot", [PROJECT / ".github" / "dependabot.yml"])],
    ids=["workflows", "dependabot"],
)
def test_github_reads_its_files(schema, files):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return yaml.safe_load((PROJECT / "deploy" / "kubernetes" / "values.yaml").read_text())


def test_kubernetes_has_the_limits_of_one_machine(values):
    instance = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    runs, pools = values["concurrency"]["runs"], values["concurrency"]["pools"]
    assert runs["maxConcurrentRuns"] == instance["concurrency"]["runs"]["max_concurrent_runs"]
    assert runs["tagConcurrencyLimits"] == instance["concurrency"]["runs"]["tag_concurrency_limits"]
    assert pools["defaultLimit"] == instance["concurrency"]["pools"]["default_limit"]
    assert pools["granularity"] == instance["concurrency"]["pools"]["granularity"]
    daemon = values["dagsterDaemon"]
    assert daemon["runMonitoring"]["pollIntervalSeconds"] == instance["run_monitoring"]["poll_interval_seconds"]
    assert daemon["runRetries"] == {
        "enabled": instance["run_retries"]["enabled"],
        "maxRetries": instance["run_retries"]["max_retries"],
        "retryOnAssetOrOpFailure": instance["run_retries"]["retry_on_asset_or_op_failure"],
    }
    # Dagster refuses limits in both places; the chart writes one into the second as soon as anything is set there.
    assert not any(daemon["runCoordinator"]["config"]["queuedRunCoordinator"].values())


def test_kubernetes_runs_this_image_and_module(values):
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    workspace = yaml.safe_load((PROJECT / "workspace.yaml").read_text())["load_from"][0]["python_module"]
    assert deployment["dagsterApiGrpcArgs"] == [
        "--module-name", workspace["module_name"], "--attribute", workspace["attribute"],
    ]  # fmt: skip
    assert deployment["image"]["repository"].endswith("/taxi-assets")
    assert deployment["image"]["tag"] != "latest"
    assert deployment["image"] == values["dagsterWebserver"]["image"] == values["dagsterDaemon"]["image"]
    home = next(variable["value"] for variable in deployment["env"] if variable["name"] == "TAXI_HOME")
    assert home in [mount["mountPath"] for mount in deployment["volumeMounts"]]


def test_kubernetes_lets_nobody_in_and_nothing_run_as_root(values):
    assert values["ingress"] == {"enabled": False}
    webserver = values["dagsterWebserver"]
    assert webserver["service"]["type"] == "ClusterIP"
    assert webserver["service"]["port"] == webserver["readinessProbe"]["httpGet"]["port"] > 1024
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    pods = [part["podSecurityContext"] for part in (webserver, values["dagsterDaemon"], deployment)]
    for pod in [*pods, launcher["runK8sConfig"]["podSpecConfig"]["securityContext"]]:
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] == 10001
    for part in (webserver, values["dagsterDaemon"], deployment, launcher):
        assert part["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert values["postgresql"]["postgresqlPassword"] == ""
